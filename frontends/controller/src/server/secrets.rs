//! Certificates, keys and tokens, which can be exchanged while the controller runs (SIGHUP).

use std::sync::Arc;

/// Something that was read from files and can be read again.
pub(crate) trait Renew: Send + Sync {
    /// Reads the files; what is returned puts their content in force, for whoever comes from then on.
    ///
    /// # Errors
    /// A file cannot be used, and why.
    fn renew(self: Arc<Self>) -> anyhow::Result<Box<dyn FnOnce()>>;
}

/// Everything of that kind.
#[derive(Default)]
pub(crate) struct Secrets(Vec<Arc<dyn Renew>>);

impl Secrets {
    /// One more.
    pub(crate) fn add(&mut self, secret: Arc<dyn Renew>) {
        self.0.push(secret);
    }

    /// Reads all of them again: if all can be used, all are in force.
    ///
    /// # Errors
    /// A file cannot be used, and why. Nothing has changed then.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        let read = self.0.iter().map(|secret| Arc::clone(secret).renew()).collect::<anyhow::Result<Vec<_>>>()?;
        read.into_iter().for_each(|put_in_force| put_in_force());
        Ok(())
    }
}
