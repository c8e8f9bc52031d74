//! The library of Redis Functions, for all that must be atomic in a room. Each feature has one file in
//! `functions/`; the files are joined here. Each function is registered where it is defined. All keys of a
//! room share its hash tag, so a room is in one slot.
//!
//! The library is named after a hash of its text: a rolling upgrade never replaces functions that older nodes
//! still call.

use uuid::Uuid;

pub(crate) const SOURCE: &str = concat!(
    include_str!("functions/shared.lua"),
    include_str!("functions/durable.lua"),
    include_str!("functions/log.lua"),
    include_str!("functions/reads.lua"),
    include_str!("functions/rooms.lua"),
    include_str!("functions/nodes.lua"),
    include_str!("functions/due.lua"),
);

#[derive(Debug, Clone)]
pub(crate) struct Functions {
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
    pub(crate) fn name(&self, function: &str) -> String {
        format!("{}_{function}", self.library)
    }
}
