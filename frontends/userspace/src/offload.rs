//! Offload features: their names, and why one that was asked for is not in force.

use cvsw_core::control::OffloadFlags;

/// Names of the features in `flags`, comma-separated.
pub fn names(flags: OffloadFlags) -> String {
    let names: Vec<_> =
        OffloadFlags::NAMES.iter().filter(|(bit, _)| flags.has(*bit)).map(|(_, name)| *name).collect();
    names.join(",")
}

/// The features of a comma-separated list of names.
pub fn parse_offload(text: &str) -> Result<OffloadFlags, String> {
    text.split(',').filter(|name| !name.is_empty()).try_fold(OffloadFlags(0), |flags, name| {
        let found = OffloadFlags::NAMES.iter().find(|(_, known)| *known == name);
        let (bit, _) =
            found.ok_or_else(|| format!("no offload `{name}`; there are {}", names(OffloadFlags(0x1f))))?;
        Ok(OffloadFlags(flags.0 | bit))
    })
}

/// The features that were `requested` and are not `effective`, each with the reason.
pub fn refusals(requested: OffloadFlags, effective: OffloadFlags) -> Vec<(&'static str, &'static str)> {
    let reason = |bit: u16| {
        if bit & OffloadFlags::NEED_CSUM != 0 && !requested.has(OffloadFlags::CSUM) {
            "it needs csum: the headers of every segment change, and with them the checksum"
        } else if bit == OffloadFlags::UFO {
            "the kernel's tap has no UDP segmentation offload (Linux 6.2 and later do)"
        } else {
            "the interface does not offer it"
        }
    };
    let refused = OffloadFlags::NAMES.iter().filter(|(bit, _)| requested.has(*bit) && !effective.has(*bit));
    refused.map(|(bit, name)| (*name, reason(*bit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_reason() {
        let all = OffloadFlags(0x1f);
        assert_eq!(refusals(all, all), []);
        let refused = refusals(OffloadFlags(0x1e), OffloadFlags(0x18));
        assert_eq!(refused.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["tso", "ufo"]);
        assert!(refused.iter().all(|(_, reason)| reason.contains("needs csum")));
        let refused = refusals(all, OffloadFlags(0x0b));
        assert!(
            matches!(refused[..], [("ufo", ufo), ("gro", gro)] if ufo.contains("6.2") && gro.contains("offer"))
        );
        assert_eq!(names(OffloadFlags(0x15)), "csum,ufo,gro");
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(parse_offload("gro,csum"), Ok(OffloadFlags(0x11)));
        assert_eq!(parse_offload(""), Ok(OffloadFlags(0)));
        assert!(parse_offload("csum,lro").unwrap_err().contains("`lro`; there are csum,tso,ufo,gso,gro"));
    }
}
