//! A MAC address that can be read, shown and sorted.

use std::{fmt, str::FromStr};

use cvsw_core::flow::MacAddr;
use serde::{Serialize, Serializer};

/// A 48-bit Ethernet address; shown as `02:00:00:00:01:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub MacAddr);

impl Mac {
    /// Whether it names a group (the I/G bit is set), as broadcast does.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether all bits are zero.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits separated by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMac;

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(NotAMac)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_none() { Ok(Self(octets)) } else { Err(NotAMac) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        let mac: Mac = "02:00:aB:00:01:ff".parse().unwrap();
        assert_eq!(mac.0, [2, 0, 0xab, 0, 1, 0xff]);
        assert_eq!(mac.to_string(), "02:00:ab:00:01:ff");
        assert!(!mac.is_group());
        assert!(Mac([0xff; 6]).is_group());
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "02:00:00:00:01", "02:00:00:00:01:01:01", "2:0:0:0:1:1", "02-00-00-00-01-01", "+2:00:00:00:01:01"]
        {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text:?}");
        }
    }
}
