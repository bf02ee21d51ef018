//! With what a frame is sealed, told by who knows which security associations there are, and has no keys of them.

use std::fmt;

use cvsw_core::DropReason;
use serde::Serialize;

use crate::{
    Trace,
    steps::{EffectName, Step, VerdictName},
};

/// The association that opens a sealed frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Association {
    /// `0x` and 8 digits.
    pub spi: String,
    /// Outer destination.
    pub destination: String,
    /// What is known of it; none: nobody has been given such a key.
    #[serde(flatten)]
    pub known: Option<Known>,
}

/// What is known of an association.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// VNI of the network.
    pub vni: u32,
    /// Who seals with it.
    pub sender: String,
    /// Cipher suite.
    pub suite: String,
    /// `in_use`; `coming`: it is on its way to its receivers; `leaving`: there is another in its place.
    pub state: &'static str,
    /// Whether the vNIC of which the frame is traced has it.
    pub here: bool,
}

impl Trace {
    /// The frame came sealed with this. If the vNIC has the key, and the engine of this trace had not, then what becomes of the
    /// frame is not known; it is not dropped for want of a key.
    #[must_use]
    pub fn sealed(mut self, association: Association) -> Self {
        let has_key = association.known.as_ref().is_some_and(|known| known.here);
        let without_key = Some(DropReason::EspNoSa.name());
        for step in &mut self.steps {
            match step {
                Step::Action { effect, drop_reason, .. } if has_key && *drop_reason == without_key => {
                    (*effect, *drop_reason) = (EffectName::Unknown, None);
                }
                Step::Verdict { verdict, drop_reason } if has_key && *drop_reason == without_key => {
                    (*verdict, *drop_reason) = (VerdictName::Unknown, None);
                }
                _ => {}
            }
        }
        self.steps.insert(0, Step::Sealed(association));
        self
    }
}

impl fmt::Display for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealed: SPI {} to {}", self.spi, self.destination)?;
        let Some(Known { vni, sender, suite, state, here }) = &self.known else {
            return write!(f, "\n  of no association in the vNIC's network that is known here");
        };
        let state = match *state {
            "in_use" => "in use",
            "coming" => "on its way to its receivers",
            _ => "being replaced",
        };
        let here = if *here { "has it" } else { "has it not" };
        write!(f, "\n  {suite}, of {sender} in the network with VNI {vni}, {state}; this vNIC {here}")
    }
}
