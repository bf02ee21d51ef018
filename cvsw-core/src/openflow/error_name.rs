//! Names of OpenFlow 1.0's errors (section 5.4.4), for people.

/// The specification's name of an `OFPT_ERROR`'s type and code; `"unknown error"` for a pair that it does not
/// have.
pub const fn error_name(kind: u16, code: u16) -> &'static str {
    match (kind, code) {
        (0, 0) => "OFPHFC_INCOMPATIBLE",
        (0, 1) => "OFPHFC_EPERM",
        (1, 0) => "OFPBRC_BAD_VERSION",
        (1, 1) => "OFPBRC_BAD_TYPE",
        (1, 2) => "OFPBRC_BAD_STAT",
        (1, 3) => "OFPBRC_BAD_VENDOR",
        (1, 4) => "OFPBRC_BAD_SUBTYPE",
        (1, 5) => "OFPBRC_EPERM",
        (1, 6) => "OFPBRC_BAD_LEN",
        (1, 7) => "OFPBRC_BUFFER_EMPTY",
        (1, 8) => "OFPBRC_BUFFER_UNKNOWN",
        (2, 0) => "OFPBAC_BAD_TYPE",
        (2, 1) => "OFPBAC_BAD_LEN",
        (2, 2) => "OFPBAC_BAD_VENDOR",
        (2, 3) => "OFPBAC_BAD_VENDOR_TYPE",
        (2, 4) => "OFPBAC_BAD_OUT_PORT",
        (2, 5) => "OFPBAC_BAD_ARGUMENT",
        (2, 6) => "OFPBAC_EPERM",
        (2, 7) => "OFPBAC_TOO_MANY",
        (2, 8) => "OFPBAC_BAD_QUEUE",
        (3, 0) => "OFPFMFC_ALL_TABLES_FULL",
        (3, 1) => "OFPFMFC_OVERLAP",
        (3, 2) => "OFPFMFC_EPERM",
        (3, 3) => "OFPFMFC_BAD_EMERG_TIMEOUT",
        (3, 4) => "OFPFMFC_BAD_COMMAND",
        (3, 5) => "OFPFMFC_UNSUPPORTED",
        (4, 0) => "OFPPMFC_BAD_PORT",
        (4, 1) => "OFPPMFC_BAD_HW_ADDR",
        (5, 0) => "OFPQOFC_BAD_PORT",
        (5, 1) => "OFPQOFC_BAD_QUEUE",
        (5, 2) => "OFPQOFC_EPERM",
        _ => "unknown error",
    }
}
