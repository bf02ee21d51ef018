//! Keys of the control channel. They are read from a folder of the controller's machine, one file per vNIC, and are
//! nowhere else: not in the configuration file, and in no answer of the controller's.

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc};

use cvsw_core::control::v3::ControlKeys;

use super::{diagnostic::Report, raw};
use crate::mac::Mac;

/// Whoever is not in the folder.
static NONE: ControlKeys = ControlKeys::NONE;

/// Who has which control key, and who must have one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// The folder.
    pub folder: Option<PathBuf>,
    /// Version 3 is offered to vNICs without a key as well.
    pub offer: bool,
    /// Version 2 is refused.
    pub require: bool,
    keys: Arc<BTreeMap<Mac, ControlKeys>>,
}

impl Control {
    /// The keys of a vNIC; [`ControlKeys::NONE`] if it has none.
    pub fn keys(&self, mac: Mac) -> &ControlKeys {
        self.keys.get(&mac).unwrap_or(&NONE)
    }

    /// Whether this vNIC is not believed when it speaks version 2.
    pub fn refuses_version_2(&self, mac: Mac) -> bool {
        self.require || self.keys.contains_key(&mac)
    }

    /// The same with the keys that are in the folder now.
    ///
    /// # Errors
    /// The folder, or a file in it, cannot be read, and why.
    pub fn read_again(&self) -> Result<Self, String> {
        let keys = self
            .folder
            .as_deref()
            .map_or_else(|| Ok(Arc::clone(&self.keys)), |folder| read(folder).map(Arc::new))?;
        Ok(Self { keys, ..self.clone() })
    }

    /// Whether version 3 is spoken at all.
    pub fn offers_version_3(&self) -> bool {
        self.offer || self.require || !self.keys.is_empty()
    }
}

pub(super) fn check(raw: &raw::File, report: &mut Report<'_>) -> Control {
    let mut control = Control::default();
    match raw.version_3.as_ref().map(|value| (value, value.get_ref().as_str())) {
        None | Some((_, "with-key")) => {}
        Some((_, "offer")) => control.offer = true,
        Some((_, "require")) => control.require = true,
        Some((value, _)) => report.error(
            value.span(),
            "unknown use of version 3",
            "write \"with-key\" (vNICs with a control key), \"offer\" (others as well) or \"require\" (refuse version 2)",
        ),
    }
    if let Some(folder) = &raw.control_keys {
        let path = PathBuf::from(folder.get_ref());
        match read(&path) {
            Ok(keys) => control.keys = Arc::new(keys),
            Err(error) => report.error(
                folder.span(),
                "the control keys cannot be read",
                format!("{error}; a folder has one file per vNIC, named like 02:00:00:00:01:01.key"),
            ),
        }
        control.folder = Some(path);
    }
    control
}

fn read(folder: &Path) -> Result<BTreeMap<Mac, ControlKeys>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut keys = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(address) = name.strip_suffix(".key") else { continue };
        let mac = address.parse::<Mac>().map_err(|_| format!("{}: its name is no address", path.display()))?;
        keys.insert(mac, cvsw_keyfile::control_key(&path).map_err(|error| error.to_string())?);
    }
    Ok(keys)
}
