//! Keys in clear on the control channel: SET_SA of protocol version 2. Used only where the operator has written
//! `keys_in_clear = true`: who reads the control channel reads the keys.

use cvsw_core::{
    control::{MessageType, SaAnswer, SetSa},
    crypto::MAX_KEY_MATERIAL,
};
use zeroize::Zeroizing;

use crate::{
    mac::Mac,
    state::{switch::Switch, vnic::Location},
};

/// Longest body of a SET_SA.
const MAX_BODY: usize = 24 + MAX_KEY_MATERIAL;

/// Sends a message to the vNIC `mac` at `location`, which is on this switch.
pub fn send(switch: &mut Switch, location: Location, mac: Mac, message: &SetSa) {
    let mut body = Zeroizing::new([0; MAX_BODY]);
    match message.emit(&mut *body) {
        Ok(len) => {
            let body = body.get(..len).unwrap_or_default();
            switch.control_frame(location.port, mac, (MessageType::SetSa, "SET_SA"), 0, body);
        }
        Err(_) => switch.note(format!("SET_SA to {mac} does not fit a control frame")),
    }
}

/// Reads an answer.
///
/// # Errors
/// The name of what is wrong.
pub fn read(body: &[u8]) -> Result<SaAnswer, &'static str> {
    SaAnswer::parse(body).map_err(|error| error.name())
}
