//! The library of Redis Functions: what must be atomic on a room. A file a feature in `functions/`, joined here; each
//! function is registered where it is defined. All keys of a room share its hash tag, so a room lives in one slot.
//!
//! The library is named after a hash of its text: a rolling upgrade never replaces functions under nodes that still run.

use uuid::Uuid;

pub(crate) const SOURCE: &str = concat!(
    include_str!("functions/shared.lua"),
    include_str!("functions/durable.lua"),
    include_str!("functions/log.lua"),
    include_str!("functions/rooms.lua"),
    include_str!("functions/nodes.lua"),
    include_str!("functions/due.lua"),
);

/// The library as Redis gets it, and the names to call it by.
#[derive(Debug, Clone)]
pub struct Functions {
    /// What `FUNCTION LOAD` takes.
    pub code: String,
    library: String,
}

impl Default for Functions {
    fn default() -> Self {
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, SOURCE.as_bytes()).simple().to_string();
        let library = format!("roomlog_{}", &hash[..8]);
        let code = format!("#!lua name={library}\n{}", SOURCE.replace("@LIBRARY@", &library));
        Self { code, library }
    }
}

impl Functions {
    /// The full name of a function of the library.
    pub fn name(&self, function: &str) -> String {
        format!("{}_{function}", self.library)
    }
}
