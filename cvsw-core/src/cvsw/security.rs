//! Security associations and what may not travel in clear.

use super::Cvsw;
use crate::{
    control::{SaAnswer, SaCommand, SaResult},
    crypto::{Ciphers, KeyMaterial, SaConfig, SaError, SaEvent, SaStatus},
    stats::ControlError,
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

    /// Whether keys are taken from control messages of protocol version 2, which carry them in clear and are not
    /// authenticated. Off at first: such messages are then refused, and counted as `keys_refused`.
    pub fn accept_keys_in_clear(&mut self, on: bool) {
        self.session.set_keys_in_clear(on);
    }

    /// Carries out the SET_SA that a controller sends, and queues its answer. Out of line: a key is on the stack here.
    #[inline(never)]
    pub(super) fn control_sa<C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        body: &[u8],
    ) -> Result<(), ControlError> {
        let message = self.session.read_sa(body)?;
        let accepted = self.session.accepts_keys();
        let result = if accepted { self.carry_out(ciphers, now, &message.command) } else { SaResult::KeysRefused };
        let id = message.command.id();
        let found = match message.command {
            SaCommand::Require { .. } | SaCommand::Flush => None,
            _ => self.sas.iter().find(|sa| accepted && sa.config.id == id),
        };
        self.session.answer(&SaAnswer {
            transaction: message.transaction,
            operation: message.command.operation(),
            id,
            result,
            association: found.map(|sa| (sa.state, sa.config.spi, sa.counters.packets)),
            generation: self.sas.generation(),
        });
        if accepted { Ok(()) } else { Err(ControlError::KeysRefused) }
    }

    fn carry_out<C: Ciphers>(&mut self, ciphers: &mut C, now: Instant, command: &SaCommand) -> SaResult {
        let result = match command {
            SaCommand::Add(config, key) => {
                let same = |sa: &SaStatus| {
                    (sa.config.id, sa.config.direction, sa.config.spi, sa.config.destination)
                        == (config.id, config.direction, config.spi, config.destination)
                };
                if self.sas.iter().any(|sa| same(&sa)) {
                    return SaResult::Present;
                }
                self.sas.add(ciphers, now, config, key)
            }
            SaCommand::Remove { id } => self.sas.remove(ciphers, *id),
            SaCommand::Query { id } => {
                self.sas.iter().find(|sa| sa.config.id == *id).map(|_| ()).ok_or(SaError::NotFound)
            }
            SaCommand::Require { vni, on } => {
                if self.encrypted_only.set(*vni, *on) {
                    Ok(())
                } else {
                    Err(SaError::Full)
                }
            }
            SaCommand::Flush => {
                self.sas.remove_all(ciphers);
                Ok(())
            }
        };
        result.map_or_else(SaResult::from, |()| SaResult::Done)
    }

    /// The networks that are marked "encrypted only", in no particular order.
    pub fn encrypted_only(&self) -> impl Iterator<Item = u32> + '_ {
        self.encrypted_only.vnis()
    }
}
