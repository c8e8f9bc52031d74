//! The library of functions, run by Lua as Redis runs it. It is loaded once per thread for each planted bug,
//! with several instances, since each simulated server has its own library memory besides its data set.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Result, Table, Value};

use super::bugs::Bug;
use super::data::{Data, Id, Reply, Text, Words};
use crate::redis::functions::{Functions, SOURCE};

pub(super) const SERVERS: usize = 4;

/// Resets the library's memory to that of a server that has just started.
const RESET: &str = "\nredis.on_reset(function() deleted_ms, history, read_at = 0, nil, nil end)\n";

#[derive(Debug)]
pub(crate) struct Added {
    pub id: Id,
    pub after: Option<Id>,
    pub fields: Vec<Text>,
}

#[derive(Debug, Default)]
pub(crate) struct Context {
    pub data: Data,
    pub time_us: u64,
    pub history: String,
    pub listeners: Vec<(Text, usize)>,
    pub published: Vec<(Text, Text)>,
    pub added: Vec<Added>,
    words: Words,
}

impl Context {
    pub(crate) fn new(data: Data, history: String) -> Self {
        Self { data, history, ..Self::default() }
    }

    pub(crate) fn run(&mut self, words: &Words) -> Reply {
        match words.get(0) {
            b"TIME" => {
                let part = |number: u64| Reply::bulk(&number.to_string());
                Reply::Array(vec![part(self.time_us / 1_000_000), part(self.time_us % 1_000_000)])
            }
            b"INFO" => Reply::bulk(&format!("# Replication\r\nmaster_replid:{}\r\n", self.history)),
            b"PUBSUB" => {
                let channel: Text = words.get(2).into();
                let count = self.listeners.iter().filter(|(known, _)| *known == channel).count();
                Reply::Array(vec![Reply::Bulk(channel), Reply::Integer(count as i64)])
            }
            b"SPUBLISH" => {
                self.published.push((words.get(1).into(), words.get(2).into()));
                Reply::Integer(0)
            }
            b"XADD" => {
                let after = self.data.stream(words.get(1)).map(|stream| stream.last);
                let reply = self.data.run(words);
                if let Some(entry) = self.data.stream(words.get(1)).and_then(|stream| stream.entries.last())
                    && !matches!(reply, Reply::Error(_))
                {
                    self.added.push(Added { id: entry.id, after, fields: entry.fields.clone() });
                }
                reply
            }
            _ => self.data.run(words),
        }
    }
}

type Current = Rc<RefCell<Context>>;

struct Instance {
    functions: HashMap<String, Function>,
    reset: Function,
}

pub(super) struct Library {
    lua: Lua,
    current: Current,
    instances: Vec<Instance>,
    prefix: String,
}

impl Library {
    pub(super) fn load(bug: Option<Bug>) -> Result<Self> {
        let lua = Lua::new();
        let current = Current::default();
        let source = SOURCE.replace("@LIBRARY@", "simulated") + RESET;
        let source = bug.map_or(source.clone(), |bug| bug.plant(&source));
        let packer = lua.create_table()?;
        packer.set("pack", lua.create_function(pack)?)?;
        lua.globals().set("cmsgpack", packer)?;
        let mut instances = Vec::new();
        for _ in 0..SERVERS {
            instances.push(instance(&lua, &current, &source)?);
        }
        Ok(Self { lua, current, instances, prefix: Functions::default().name("") })
    }

    pub(super) fn reset(&self, server: usize) {
        self.instances[server].reset.call::<()>(()).expect("the reset is ours");
    }

    pub(super) fn run(&self, server: usize, context: &mut Context, words: &Words) -> Reply {
        if words.get(0) != b"FCALL" {
            return context.run(words);
        }
        let name = std::str::from_utf8(words.get(1)).ok().and_then(|name| name.strip_prefix(&*self.prefix));
        let Some(function) = name.and_then(|name| self.instances[server].functions.get(name)) else {
            return Reply::Error("ERR Function not found".to_owned());
        };
        std::mem::swap(&mut *self.current.borrow_mut(), context);
        let outcome = self.call(function, words);
        std::mem::swap(&mut *self.current.borrow_mut(), context);
        outcome.unwrap_or_else(|error| Reply::Error(format!("ERR {error}")))
    }

    fn call(&self, function: &Function, words: &Words) -> Result<Reply> {
        let keys = self.lua.create_table_with_capacity(1, 0)?;
        keys.raw_set(1, self.lua.create_string(words.get(3))?)?;
        let args = self.lua.create_table_with_capacity(words.len() - 4, 0)?;
        for at in 4..words.len() {
            args.raw_set(at - 3, self.lua.create_string(words.get(at))?)?;
        }
        from_lua(function.call::<Value>((keys, args))?)
    }
}

fn instance(lua: &Lua, current: &Current, source: &str) -> Result<Instance> {
    let functions = Rc::new(RefCell::new(HashMap::new()));
    let reset = Rc::new(RefCell::new(None));
    let redis = lua.create_table()?;
    let (here, known) = (current.clone(), functions.clone());
    redis.set("call", lua.create_function(move |lua, words| command(lua, &here, &words, true))?)?;
    let here = current.clone();
    redis.set("pcall", lua.create_function(move |lua, words| command(lua, &here, &words, false))?)?;
    let register = lua.create_function(move |_, (first, callback): (Value, Option<Function>)| {
        let (name, callback) = match (first, callback) {
            (Value::Table(options), _) => (options.get("function_name")?, options.get("callback")?),
            (name, Some(callback)) => (name.to_string()?, callback),
            _ => return Err(mlua::Error::runtime("a function needs a name and a body")),
        };
        let name = name.strip_prefix("simulated_").unwrap_or(&name).to_owned();
        known.borrow_mut().insert(name, callback);
        Ok(())
    })?;
    redis.set("register_function", register)?;
    let resets = reset.clone();
    let on_reset = lua.create_function(move |_, body: Function| {
        *resets.borrow_mut() = Some(body);
        Ok(())
    })?;
    redis.set("on_reset", on_reset)?;
    lua.globals().set("redis", redis)?;
    lua.load(source).set_name("library").exec()?;
    let reset = reset.take().ok_or_else(|| mlua::Error::runtime("the library has no reset"))?;
    Ok(Instance { functions: functions.take(), reset })
}

/// Implements `redis.call` and `redis.pcall`.
fn command(lua: &Lua, current: &Current, arguments: &MultiValue, raises: bool) -> Result<Value> {
    let mut context = current.borrow_mut();
    let mut words = std::mem::take(&mut context.words);
    words.clear();
    for argument in arguments {
        match argument {
            Value::String(text) => words.push(&text.as_bytes()),
            Value::Integer(number) => words.push(number.to_string().as_bytes()),
            Value::Number(number) => words.push(number.to_string().as_bytes()),
            other => return Err(mlua::Error::runtime(format!("no argument of a command: {other:?}"))),
        }
    }
    let reply = context.run(&words);
    context.words = words;
    drop(context);
    match reply {
        Reply::Error(text) if raises => Err(mlua::Error::runtime(text)),
        reply => to_lua(lua, reply),
    }
}

fn to_lua(lua: &Lua, reply: Reply) -> Result<Value> {
    let named = |name: &str, text: &str| -> Result<Value> {
        let table = lua.create_table()?;
        table.set(name, text)?;
        Ok(Value::Table(table))
    };
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Integer(number) => Value::Number(number as f64),
        Reply::Bulk(text) => Value::String(lua.create_string(&text)?),
        Reply::Status(text) => named("ok", text)?,
        Reply::Error(text) => named("err", &text)?,
        Reply::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in items.into_iter().enumerate() {
                table.raw_set(at + 1, to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}

/// Converts a function's result as Redis does.
fn from_lua(value: Value) -> Result<Reply> {
    Ok(match value {
        Value::String(text) => Reply::Bulk((&*text.as_bytes()).into()),
        Value::Integer(number) => Reply::Integer(number),
        Value::Number(number) => Reply::Integer(number as i64),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => {
            if let Some(error) = table.raw_get::<Option<String>>("err")? {
                return Ok(Reply::Error(error));
            }
            let mut items = Vec::new();
            loop {
                match table.raw_get(items.len() + 1)? {
                    Value::Nil => break Reply::Array(items),
                    item => items.push(from_lua(item)?),
                }
            }
        }
        _ => Reply::Nil,
    })
}

/// Implements `cmsgpack.pack` for an array of strings.
fn pack(lua: &Lua, table: Table) -> Result<mlua::LuaString> {
    let mut out = Vec::new();
    let count = table.raw_len();
    rmp::encode::write_array_len(&mut out, count as u32).map_err(mlua::Error::external)?;
    for at in 1..=count {
        let text = table.raw_get::<mlua::LuaString>(at)?;
        rmp::encode::write_str_len(&mut out, text.as_bytes().len() as u32).map_err(mlua::Error::external)?;
        out.extend_from_slice(&text.as_bytes());
    }
    lua.create_string(&out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
