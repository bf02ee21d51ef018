//! Security associations and what may not travel in clear.

use super::Cvsw;
use crate::{
    crypto::{Ciphers, KeyMaterial, SaConfig, SaError, SaEvent, SaStatus},
    time::Instant,
};

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Cvsw<FLOWS, CACHE, MASKS, SAS> {
    /// Adds a security association; its key goes to `ciphers`, which frames must then be processed with
    /// ([`Cvsw::process_burst_with`]). If there is one with this id and direction, the new one takes its place between
    /// two packets: that is how a sender changes to a new key. A receiver holds several, one per SPI.
    ///
    /// # Errors
    /// See [`SaError`]; nothing has changed then.
    pub fn add_sa<C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        config: &SaConfig,
        key: &KeyMaterial,
    ) -> Result<(), SaError> {
        self.sas.add(ciphers, now, config, key)
    }

    /// Removes a security association and its key.
    ///
    /// # Errors
    /// [`SaError::NotFound`].
    pub fn remove_sa<C: Ciphers>(&mut self, ciphers: &mut C, id: u32) -> Result<(), SaError> {
        self.sas.remove(ciphers, id)
    }

    /// All security associations with their counters, in no particular order.
    pub fn sas(&self) -> impl Iterator<Item = SaStatus> + '_ {
        self.sas.iter()
    }

    /// What happened to a security association. Call until `None` after each burst and tick.
    pub fn poll_sa_event(&mut self) -> Option<SaEvent> {
        self.sas.poll_event()
    }

    /// Tells the engine which generation of the VM it runs in (the hypervisor's generation id, or any number that
    /// changes when the VM is restored from a snapshot or cloned). After a change, sending associations refuse to send,
    /// since another copy of the VM may use the same sequence numbers, until they are replaced.
    pub fn set_boot_generation(&mut self, generation: u64) {
        self.sas.set_generation(generation);
    }

    /// Sets whether frames of the VXLAN network `vni` may travel encrypted only. What comes or would leave in clear is
    /// then dropped as `clear_text_refused`. `false`, and nothing is changed, if
    /// [`crate::crypto::MAX_ENCRYPTED_ONLY`] networks are marked already.
    #[must_use = "a network that could not be marked is not protected"]
    pub fn require_encryption(&mut self, vni: u32, on: bool) -> bool {
        self.encrypted_only.set(vni, on)
    }

    /// The networks that are marked "encrypted only", in no particular order.
    pub fn encrypted_only(&self) -> impl Iterator<Item = u32> + '_ {
        self.encrypted_only.vnis()
    }
}
