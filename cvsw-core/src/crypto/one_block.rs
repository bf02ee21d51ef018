//! AES block by block, for callers with little stack.
//!
//! The software implementation computes four blocks at once, inlined into every mode of operation, with a stack frame of
//! more than two kilobytes each. One block at a time, out of line, takes two hundred bytes, and about twice the time.

use aes::cipher::{
    Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, InOut, Key, KeyInit,
    KeySizeUser, ParBlocksSizeUser, consts::U1,
};

/// A cipher that never computes more than one block at a time.
pub struct OneBlock<A>(A);

impl<A: BlockSizeUser> BlockSizeUser for OneBlock<A> {
    type BlockSize = A::BlockSize;
}

impl<A: KeySizeUser> KeySizeUser for OneBlock<A> {
    type KeySize = A::KeySize;
}

impl<A: KeyInit> KeyInit for OneBlock<A> {
    fn new(key: &Key<Self>) -> Self {
        Self(A::new(key))
    }
}

impl<A: BlockCipherEncrypt> BlockCipherEncrypt for OneBlock<A> {
    fn encrypt_with_backend(&self, closure: impl BlockCipherEncClosure<BlockSize = Self::BlockSize>) {
        closure.call(&Backend(&self.0));
    }
}

struct Backend<'a, A>(&'a A);

impl<A: BlockSizeUser> BlockSizeUser for Backend<'_, A> {
    type BlockSize = A::BlockSize;
}

impl<A: BlockSizeUser> ParBlocksSizeUser for Backend<'_, A> {
    type ParBlocksSize = U1;
}

impl<A: BlockCipherEncrypt> BlockCipherEncBackend for Backend<'_, A> {
    #[inline(never)]
    fn encrypt_block(&self, block: InOut<'_, '_, Block<Self>>) {
        self.0.encrypt_block_inout(block);
    }
}
