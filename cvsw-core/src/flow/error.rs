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
    /// `OFPFMFC_UNSUPPORTED`: a list that cannot be honoured.
    Unsupported,
    /// `OFPFMFC_BAD_FLAGS` (Nicira's): an unknown flag.
    BadFlags,
    /// `NXBRC_NXM_INVALID` (Nicira's): an NXM match that is cut off.
    NxmInvalid,
    /// `OFPBMC_BAD_FIELD` (Nicira's): an NXM field that is not known, or has the wrong length.
    NxmBadType,
    /// `OFPBMC_BAD_VALUE` (Nicira's): a value that the NXM field cannot have.
    NxmBadValue,
    /// `OFPBMC_BAD_MASK` (Nicira's): a mask that the NXM field cannot have.
    NxmBadMask,
    /// `OFPBMC_BAD_PREREQ` (Nicira's): an NXM field without those that it needs in front of it.
    NxmBadPrereq,
    /// `OFPBMC_DUP_FIELD` (Nicira's): an NXM field for the second time.
    NxmDupType,
    /// `OFPBMC_BAD_WILDCARDS` (Nicira's): a bit of a value that its mask excludes.
    NxmBadWildcards,
}

impl OfpError {
    /// Whether type and code are Nicira's: OpenFlow 1.0 has none for this error.
    pub const fn is_nicira(self) -> bool {
        matches!(
            self,
            Self::BadFlags
                | Self::NxmInvalid
                | Self::NxmBadType
                | Self::NxmBadValue
                | Self::NxmBadMask
                | Self::NxmBadPrereq
                | Self::NxmDupType
                | Self::NxmBadWildcards
        )
    }

    /// `(type, code)` on the wire: of an `OFPT_ERROR`, or ([`OfpError::is_nicira`]) of the vendor error inside
    /// one.
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
            Self::BadFlags => (3, 258),
            Self::NxmInvalid => (1, 256),
            Self::NxmBadType => (0, 263),
            Self::NxmBadValue => (1, 258),
            Self::NxmBadMask => (1, 259),
            Self::NxmBadPrereq => (1, 260),
            Self::NxmDupType => (1, 261),
            Self::NxmBadWildcards => (1, 262),
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
            Self::BadFlags => "OFPFMFC_BAD_FLAGS",
            Self::NxmInvalid => "NXBRC_NXM_INVALID",
            Self::NxmBadType => "OFPBMC_BAD_FIELD",
            Self::NxmBadValue => "OFPBMC_BAD_VALUE",
            Self::NxmBadMask => "OFPBMC_BAD_MASK",
            Self::NxmBadPrereq => "OFPBMC_BAD_PREREQ",
            Self::NxmDupType => "OFPBMC_DUP_FIELD",
            Self::NxmBadWildcards => "OFPBMC_BAD_WILDCARDS",
        }
    }
}

impl core::fmt::Display for OfpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for OfpError {}
