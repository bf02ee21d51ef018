//! OpenFlow errors, as data.

/// An OpenFlow 1.0 error (section 5.4.4): the pair `(type, code)` of an `OFPT_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OfpError {
    /// `OFPBRC_BAD_VERSION`: ofp_header.version is not 1.
    BadVersion,
    /// `OFPBRC_BAD_TYPE`: ofp_header.type is not what was expected.
    BadMessageType,
    /// `OFPBRC_BAD_VENDOR`.
    BadVendor,
    /// `OFPBRC_BAD_SUBTYPE`: unknown Nicira message.
    BadSubtype,
    /// `OFPBRC_BAD_LEN`: the message's length does not fit its type.
    BadLength,
    /// `OFPBAC_BAD_TYPE`: unknown or unsupported action.
    BadActionType,
    /// `OFPBAC_BAD_LEN`: an action's length does not fit its type or the message.
    BadActionLength,
    /// `OFPBAC_BAD_VENDOR`: unknown vendor of an action.
    BadActionVendor,
    /// `OFPBAC_BAD_VENDOR_TYPE`: unknown action of a known vendor.
    BadActionVendorType,
    /// `OFPBAC_BAD_OUT_PORT`: output to anything but `OFPP_NONE`.
    BadOutPort,
    /// `OFPBAC_BAD_ARGUMENT`: an argument out of its range.
    BadArgument,
    /// `OFPBAC_TOO_MANY`: more actions than an entry can hold.
    TooManyActions,
    /// `OFPBAC_BAD_QUEUE`: enqueue to a queue that does not exist.
    BadQueue,
    /// `OFPFMFC_ALL_TABLES_FULL`.
    TableFull,
    /// `OFPFMFC_OVERLAP`: CHECK_OVERLAP and an overlapping entry of the same priority exists.
    Overlap,
    /// `OFPFMFC_BAD_EMERG_TIMEOUT`: emergency entry with a timeout.
    BadEmergTimeout,
    /// `OFPFMFC_BAD_COMMAND`: unknown command.
    BadCommand,
    /// `OFPFMFC_UNSUPPORTED`: a list or a flag that cannot be honoured.
    Unsupported,
}

impl OfpError {
    /// `(type, code)` on the wire.
    pub const fn wire(self) -> (u16, u16) {
        match self {
            Self::BadVersion => (1, 0),
            Self::BadMessageType => (1, 1),
            Self::BadVendor => (1, 3),
            Self::BadSubtype => (1, 4),
            Self::BadLength => (1, 6),
            Self::BadActionType => (2, 0),
            Self::BadActionLength => (2, 1),
            Self::BadActionVendor => (2, 2),
            Self::BadActionVendorType => (2, 3),
            Self::BadOutPort => (2, 4),
            Self::BadArgument => (2, 5),
            Self::TooManyActions => (2, 7),
            Self::BadQueue => (2, 8),
            Self::TableFull => (3, 0),
            Self::Overlap => (3, 1),
            Self::BadEmergTimeout => (3, 3),
            Self::BadCommand => (3, 4),
            Self::Unsupported => (3, 5),
        }
    }

    /// The name in the OpenFlow specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadVersion => "OFPBRC_BAD_VERSION",
            Self::BadMessageType => "OFPBRC_BAD_TYPE",
            Self::BadVendor => "OFPBRC_BAD_VENDOR",
            Self::BadSubtype => "OFPBRC_BAD_SUBTYPE",
            Self::BadLength => "OFPBRC_BAD_LEN",
            Self::BadActionType => "OFPBAC_BAD_TYPE",
            Self::BadActionLength => "OFPBAC_BAD_LEN",
            Self::BadActionVendor => "OFPBAC_BAD_VENDOR",
            Self::BadActionVendorType => "OFPBAC_BAD_VENDOR_TYPE",
            Self::BadOutPort => "OFPBAC_BAD_OUT_PORT",
            Self::BadArgument => "OFPBAC_BAD_ARGUMENT",
            Self::TooManyActions => "OFPBAC_TOO_MANY",
            Self::BadQueue => "OFPBAC_BAD_QUEUE",
            Self::TableFull => "OFPFMFC_ALL_TABLES_FULL",
            Self::Overlap => "OFPFMFC_OVERLAP",
            Self::BadEmergTimeout => "OFPFMFC_BAD_EMERG_TIMEOUT",
            Self::BadCommand => "OFPFMFC_BAD_COMMAND",
            Self::Unsupported => "OFPFMFC_UNSUPPORTED",
        }
    }
}

impl core::fmt::Display for OfpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for OfpError {}
