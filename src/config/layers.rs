//! Layers of the configuration, each on top of the previous one. The defaults define the existing keys. Every
//! value is checked when it is applied, so that an error can name the key and the value's origin.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Config, ConfigError, Origin, RoomPolicy};

/// The values so far: always a complete and valid configuration.
pub(super) struct Layers {
    values: Table,
    default_room: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    pub(super) fn new(defaults: &str) -> Result<Self, ConfigError> {
        let values = parse(defaults, Origin::Defaults)?;
        let default_room = values.get("rooms").and_then(|rooms| rooms.get(0)).and_then(Value::as_table);
        let default_room = default_room.cloned().unwrap_or_default();
        Ok(Self { values, default_room, origins: BTreeMap::new() })
    }

    pub(super) fn file(&mut self, name: &str, source: &str) -> Result<(), ConfigError> {
        let origin = Origin::File(name.into());
        for (name, value) in parse(source, origin.clone())? {
            match value {
                Value::Table(entries) if self.values.get(&name).is_some_and(Value::is_table) => {
                    for (key, value) in entries {
                        self.set(&format!("{name}.{key}"), value, origin.clone())?;
                    }
                }
                value => self.set(&name, value, origin.clone())?,
            }
        }
        Ok(())
    }

    /// Applies one value that may be text: numbers and lists are parsed from it where the key needs one.
    pub(super) fn set_text(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let value = match (self.slot(key), value) {
            (Some(Value::Integer(_)), Value::String(text)) => {
                text.trim().parse().map_or(Value::String(text), Value::Integer)
            }
            (Some(Value::Array(_)), Value::String(text)) if text.trim_start().starts_with('[') => {
                text.trim().parse().map_err(|error: toml::de::Error| {
                    bad_value(key, &origin, format!("is not a TOML array: {}", error.message()))
                })?
            }
            (Some(Value::Array(_)), Value::String(text)) if key != "rooms" => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.into())).collect())
            }
            (_, value) => value,
        };
        self.set(key, value, origin)
    }

    pub(super) fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let value = if key == "rooms" { self.rooms(value, &origin)? } else { value };
        let replaced = match self.slot(key) {
            Some(Value::Table(_)) => {
                let problem = format!("is a section; its keys are written below [{key}], or as {key}.<key>");
                return Err(bad_value(key, &origin, problem));
            }
            Some(slot) => std::mem::replace(slot, value),
            None => return Err(self.unknown(key, origin)),
        };
        self.origins.insert(key.into(), origin.clone());
        self.config().map(drop).map_err(|problem| bad_value(key, &origin, reword(&problem, &replaced)))
    }

    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        let config = self.config().map_err(|problem| bad_value("*", &Origin::Defaults, problem))?;
        match config.check() {
            Ok(()) => Ok(config),
            Err((key, problem)) => {
                let origin = self.origins.get(key).unwrap_or(&Origin::Defaults);
                Err(bad_value(key, origin, problem))
            }
        }
    }

    fn config(&self) -> Result<Config, String> {
        self.values.clone().try_into().map_err(|error| error.message().into())
    }

    fn slot(&mut self, key: &str) -> Option<&mut Value> {
        match key.split_once('.') {
            Some((section, key)) => self.values.get_mut(section)?.as_table_mut()?.get_mut(key),
            None => self.values.get_mut(key),
        }
    }

    fn unknown(&self, key: &str, origin: Origin) -> ConfigError {
        let (section, wanted) = key.split_once('.').unwrap_or((key, ""));
        match self.values.get(section) {
            Some(Value::Table(keys)) => {
                ConfigError::unknown(origin, key, wanted, &format!("{section}."), keys)
            }
            _ => ConfigError::unknown(origin, key, section, "", &self.values),
        }
    }

    /// Completes each `[[rooms]]` table from the default one, which is appended last.
    fn rooms(&self, value: Value, origin: &Origin) -> Result<Value, ConfigError> {
        let not_tables =
            || bad_value("rooms", origin, "must be tables: [[rooms]], or [{ match = \"chat.*\" }]");
        let Value::Array(tables) = value else {
            return Err(not_tables());
        };
        let mut rooms = Vec::with_capacity(tables.len() + 1);
        for (i, table) in tables.into_iter().enumerate() {
            let Value::Table(table) = table else {
                return Err(not_tables());
            };
            if !table.contains_key("match") {
                let problem = "is missing; every [[rooms]] table needs a pattern, such as \"chat.*\"";
                return Err(bad_value(&format!("rooms[{i}].match"), origin, problem));
            }
            let mut room = self.default_room.clone();
            for (key, value) in table {
                let path = format!("rooms[{i}].{key}");
                let replaced = match room.get_mut(&key) {
                    Some(slot) => std::mem::replace(slot, value),
                    None => {
                        let parent = format!("rooms[{i}].");
                        return Err(ConfigError::unknown(origin.clone(), &path, &key, &parent, &room));
                    }
                };
                room.clone()
                    .try_into::<RoomPolicy>()
                    .map_err(|error| bad_value(&path, origin, reword(error.message(), &replaced)))?;
            }
            rooms.push(Value::Table(room));
        }
        rooms.push(Value::Table(self.default_room.clone()));
        Ok(Value::Array(rooms))
    }
}

fn parse(source: &str, origin: Origin) -> Result<Table, ConfigError> {
    source.parse().map_err(|error| ConfigError::syntax(origin, source, &error))
}

/// Rewords a wrong type for people, if the previous value had the right one.
fn reword(problem: &str, before: &Value) -> String {
    let rule = match before {
        _ if !problem.starts_with("invalid type") => problem,
        Value::String(_) => "must be text in quotes",
        Value::Array(_) => "must be a list of texts, such as [\"a\", \"b\"]",
        Value::Boolean(_) => "must be true or false",
        _ => problem,
    };
    rule.into()
}

fn bad_value(key: &str, origin: &Origin, problem: impl Into<String>) -> ConfigError {
    ConfigError::BadValue { key: key.into(), origin: origin.clone(), problem: problem.into() }
}
