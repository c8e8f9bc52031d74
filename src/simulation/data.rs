//! The data set of a simulated Redis: the commands that the functions and the store use, as far as they use
//! them. A copy of it is a replica at one moment. Copies share their stream entries.

use std::rc::Rc;

pub(super) type Text = Rc<[u8]>;

pub(super) type Id = (u64, u64);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Status(&'static str),
    Integer(i64),
    Bulk(Text),
    Array(Vec<Reply>),
    Error(String),
}

impl Reply {
    pub(crate) fn bulk(text: &str) -> Self {
        Self::Bulk(text.as_bytes().into())
    }

    fn bulk_or_nil(text: Option<&Text>) -> Self {
        text.map_or(Self::Nil, |text| Self::Bulk(text.clone()))
    }

    fn error(text: &str) -> Self {
        Self::Error(text.to_owned())
    }
}

/// The words of a command, in one buffer that is reused.
#[derive(Debug, Default)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns a word, or an empty one beyond the last.
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let Some(end) = self.ends.get(at) else { return b"" };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..*end]
    }

    fn text(&self, at: usize) -> Text {
        self.get(at).into()
    }

    fn number(&self, at: usize) -> f64 {
        std::str::from_utf8(self.get(at)).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
    }

    fn from(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        (at..self.len()).map(|at| self.get(at))
    }

    fn option(&self, name: &[u8]) -> Option<usize> {
        (1..self.len()).find(|at| self.get(*at) == name).map(|at| self.number(at + 1) as usize)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: Id,
    pub fields: Vec<Text>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub entries: Vec<Rc<Entry>>,
    pub last: Id,
    pub groups: Vec<(Text, Text)>,
}

#[derive(Debug, Clone)]
enum Value {
    Hash(Vec<(Text, Text)>),
    Sorted(Vec<(f64, Text)>),
    Stream(Stream),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    keys: Vec<(Text, Value)>,
}

/// Parses an id. A missing `seq` is `rest`.
pub(super) fn id_of(text: &[u8], rest: u64) -> Option<Id> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once('-') {
        Some((ms, seq)) => Some((ms.parse().ok()?, seq.parse().ok()?)),
        None => Some((text.parse().ok()?, rest)),
    }
}

fn written(id: Id) -> Reply {
    Reply::bulk(&format!("{}-{}", id.0, id.1))
}

impl Data {
    fn find(&self, key: &[u8]) -> Option<&Value> {
        self.keys.iter().find(|(name, _)| **name == *key).map(|(_, value)| value)
    }

    fn value(&mut self, key: &[u8], make: impl FnOnce() -> Value) -> &mut Value {
        let at = self.keys.iter().position(|(name, _)| **name == *key).unwrap_or_else(|| {
            self.keys.push((key.into(), make()));
            self.keys.len() - 1
        });
        &mut self.keys[at].1
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let at = self.keys.iter().position(|(name, _)| **name == *key);
        at.map(|at| self.keys.swap_remove(at)).is_some()
    }

    pub(crate) fn hash(&self, key: &[u8]) -> &[(Text, Text)] {
        match self.find(key) {
            Some(Value::Hash(fields)) => fields,
            _ => &[],
        }
    }

    fn hash_mut(&mut self, key: &[u8]) -> &mut Vec<(Text, Text)> {
        match self.value(key, || Value::Hash(Vec::new())) {
            Value::Hash(fields) => fields,
            other => unreachable!("a hash, not {other:?}"),
        }
    }

    pub(crate) fn field(&self, key: &[u8], field: &[u8]) -> Option<&Text> {
        self.hash(key).iter().find(|(name, _)| **name == *field).map(|(_, value)| value)
    }

    fn set_field(&mut self, key: &[u8], field: &[u8], value: Text) -> i64 {
        let fields = self.hash_mut(key);
        match fields.iter_mut().find(|(name, _)| **name == *field) {
            Some((_, old)) => {
                *old = value;
                0
            }
            None => {
                fields.push((field.into(), value));
                1
            }
        }
    }

    fn sorted(&self, key: &[u8]) -> &[(f64, Text)] {
        match self.find(key) {
            Some(Value::Sorted(members)) => members,
            _ => &[],
        }
    }

    fn sorted_mut(&mut self, key: &[u8]) -> &mut Vec<(f64, Text)> {
        match self.value(key, || Value::Sorted(Vec::new())) {
            Value::Sorted(members) => members,
            other => unreachable!("a sorted set, not {other:?}"),
        }
    }

    pub(crate) fn stream(&self, key: &[u8]) -> Option<&Stream> {
        match self.find(key) {
            Some(Value::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn stream_mut(&mut self, key: &[u8]) -> Option<&mut Stream> {
        self.keys.iter_mut().find(|(name, _)| **name == *key).and_then(|(_, value)| match value {
            Value::Stream(stream) => Some(stream),
            _ => None,
        })
    }

    pub(crate) fn run(&mut self, words: &Words) -> Reply {
        let key = words.get(1);
        match words.get(0) {
            b"HGET" => Reply::bulk_or_nil(self.field(key, words.get(2))),
            b"HMGET" => {
                let fields = words.from(2);
                Reply::Array(fields.map(|field| Reply::bulk_or_nil(self.field(key, field))).collect())
            }
            b"HSET" => {
                let pairs = (2..words.len()).step_by(2);
                let added = pairs.map(|at| self.set_field(key, words.get(at), words.text(at + 1)));
                Reply::Integer(added.sum())
            }
            b"HDEL" => {
                let fields = self.hash_mut(key);
                let before = fields.len();
                fields.retain(|(name, _)| words.from(2).all(|field| **name != *field));
                let (gone, empty) = (before - fields.len(), fields.is_empty());
                if empty {
                    self.remove(key);
                }
                Reply::Integer(gone as i64)
            }
            b"HINCRBY" => {
                let old =
                    self.field(key, words.get(2)).and_then(|old| std::str::from_utf8(old).ok()?.parse().ok());
                let new = old.unwrap_or(0) + words.number(3) as i64;
                self.set_field(key, words.get(2), new.to_string().as_bytes().into());
                Reply::Integer(new)
            }
            b"HLEN" => Reply::Integer(self.hash(key).len() as i64),
            b"HGETALL" => {
                let fields = self.hash(key).iter();
                Reply::Array(
                    fields
                        .flat_map(|(name, value)| [name, value])
                        .map(|text| Reply::Bulk(text.clone()))
                        .collect(),
                )
            }
            b"EXISTS" => Reply::Integer(i64::from(self.find(key).is_some())),
            b"UNLINK" => Reply::Integer(words.from(1).filter(|key| self.remove(key)).count() as i64),
            b"PEXPIRE" => Reply::Integer(1),
            name if name.starts_with(b"Z") => self.run_on_sorted(words),
            _ => self.run_on_stream(words),
        }
    }

    fn run_on_sorted(&mut self, words: &Words) -> Reply {
        let key = words.get(1);
        match words.get(0) {
            b"ZADD" => {
                let rule = words.get(2);
                let first = if matches!(rule, b"NX" | b"LT") { 3 } else { 2 };
                let members = self.sorted_mut(key);
                let mut added = 0;
                for at in (first..words.len()).step_by(2) {
                    let (score, member) = (words.number(at), words.get(at + 1));
                    match members.iter_mut().find(|(_, known)| **known == *member) {
                        Some(_) if rule == b"NX" => {}
                        Some((old, _)) if rule == b"LT" && score >= *old => {}
                        Some((old, _)) => *old = score,
                        None => {
                            members.push((score, member.into()));
                            added += 1;
                        }
                    }
                }
                members.sort_by(|(one, a), (other, b)| one.total_cmp(other).then_with(|| a.cmp(b)));
                Reply::Integer(added)
            }
            b"ZREM" => {
                let members = self.sorted_mut(key);
                let before = members.len();
                members.retain(|(_, known)| words.from(2).all(|member| **known != *member));
                let (gone, empty) = (before - members.len(), members.is_empty());
                if empty {
                    self.remove(key);
                }
                Reply::Integer(gone as i64)
            }
            b"ZCOUNT" => Reply::Integer(self.scored(words).count() as i64),
            b"ZRANGEBYSCORE" => {
                let (skip, limit) = (words.number(5) as usize, words.number(6) as usize);
                let found = self.scored(words).skip(skip).take(limit);
                Reply::Array(found.map(|(_, member)| Reply::Bulk(member.clone())).collect())
            }
            b"ZREMRANGEBYSCORE" => {
                let gone: Vec<Text> = self.scored(words).map(|(_, member)| member.clone()).collect();
                let members = self.sorted_mut(key);
                members.retain(|(_, member)| !gone.contains(member));
                if members.is_empty() {
                    self.remove(key);
                }
                Reply::Integer(gone.len() as i64)
            }
            b"ZCARD" => Reply::Integer(self.sorted(key).len() as i64),
            b"ZRANGE" => {
                let members = self.sorted(key).iter().skip(words.number(2) as usize);
                let count = (words.number(3) - words.number(2)) as usize + 1;
                let scores = words.get(4) == b"WITHSCORES";
                let mut found = Vec::new();
                for (score, member) in members.take(count) {
                    found.push(Reply::Bulk(member.clone()));
                    if scores {
                        found.push(Reply::bulk(&score.to_string()));
                    }
                }
                Reply::Array(found)
            }
            other => Reply::Error(format!("ERR the simulation has no {}", String::from_utf8_lossy(other))),
        }
    }

    /// Returns the members of a sorted set whose scores are within the bounds of a command.
    fn scored<'a>(&'a self, words: &Words) -> impl Iterator<Item = &'a (f64, Text)> {
        let bound = |at: usize| {
            let text = std::str::from_utf8(words.get(at)).unwrap_or_default();
            let number = text.trim_start_matches('(').parse::<f64>().unwrap_or_default();
            (number, text.starts_with('('))
        };
        let ((from, after), (to, before)) = (bound(2), bound(3));
        self.sorted(words.get(1)).iter().filter(move |(score, _)| {
            (if after { *score > from } else { *score >= from })
                && (if before { *score < to } else { *score <= to })
        })
    }

    fn run_on_stream(&mut self, words: &Words) -> Reply {
        let key = words.get(1);
        match words.get(0) {
            b"XADD" => {
                let Some(id) = id_of(words.get(2), 0) else { return Reply::error("ERR Invalid stream ID") };
                let Value::Stream(stream) = self.value(key, || Value::Stream(Stream::default())) else {
                    return Reply::error("WRONGTYPE");
                };
                if id <= stream.last {
                    return Reply::error(
                        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
                    );
                }
                let fields = (3..words.len()).map(|at| words.text(at)).collect();
                stream.last = id;
                stream.entries.push(Rc::new(Entry { id, fields }));
                written(id)
            }
            b"XLEN" => Reply::Integer(self.stream(key).map_or(0, |stream| stream.entries.len()) as i64),
            b"XRANGE" => self.range(key, words.get(2), words.get(3), words.option(b"COUNT"), false),
            b"XREVRANGE" => self.range(key, words.get(3), words.get(2), words.option(b"COUNT"), true),
            b"XDEL" => {
                let Some(stream) = self.stream_mut(key) else { return Reply::Integer(0) };
                let before = stream.entries.len();
                let id = id_of(words.get(2), 0);
                stream.entries.retain(|entry| Some(entry.id) != id);
                Reply::Integer((before - stream.entries.len()) as i64)
            }
            b"XTRIM" => {
                let Some(stream) = self.stream_mut(key) else { return Reply::Integer(0) };
                let before = stream.entries.len();
                if words.get(2) == b"MAXLEN" {
                    let keep = words.number(4) as usize;
                    stream.entries.drain(..before.saturating_sub(keep));
                } else if words.get(3) == b"=" {
                    let first = id_of(words.get(4), 0).unwrap_or_default();
                    stream.entries.retain(|entry| entry.id >= first);
                }
                Reply::Integer((before - stream.entries.len()) as i64)
            }
            b"XINFO" => match self.stream(words.get(2)) {
                Some(stream) => Reply::Array(vec![Reply::bulk("last-generated-id"), written(stream.last)]),
                None => Reply::error("ERR no such key"),
            },
            b"XGROUP" => self.group(words),
            b"MEMORY" => Reply::Integer(1000),
            other => Reply::Error(format!("ERR the simulation has no {}", String::from_utf8_lossy(other))),
        }
    }

    fn range(&self, key: &[u8], start: &[u8], end: &[u8], count: Option<usize>, newest_first: bool) -> Reply {
        let Some(stream) = self.stream(key) else { return Reply::Array(Vec::new()) };
        let below = |text: &[u8], rest| match text {
            b"-" => 0,
            b"+" => stream.entries.len(),
            [b'(', text @ ..] => {
                let id = id_of(text, rest).unwrap_or_default();
                stream.entries.partition_point(|entry| entry.id < id)
            }
            text => {
                let id = id_of(text, rest).unwrap_or_default();
                stream.entries.partition_point(|entry| if rest == 0 { entry.id < id } else { entry.id <= id })
            }
        };
        let (first, last) = (below(start, 0), below(end, u64::MAX));
        let entries = &stream.entries[first.min(last)..last];
        let most = count.unwrap_or(usize::MAX);
        let reply = |entry: &Rc<Entry>| {
            let fields = entry.fields.iter().map(|field| Reply::Bulk(field.clone())).collect();
            Reply::Array(vec![written(entry.id), Reply::Array(fields)])
        };
        Reply::Array(if newest_first {
            entries.iter().rev().take(most).map(reply).collect()
        } else {
            entries.iter().take(most).map(reply).collect()
        })
    }

    fn group(&mut self, words: &Words) -> Reply {
        let (what, group, position) = (words.get(1), words.get(3), words.text(4));
        let Some(stream) = self.stream_mut(words.get(2)) else {
            return Reply::error("ERR The XGROUP subcommand requires the key to exist");
        };
        let known = stream.groups.iter_mut().find(|(name, _)| **name == *group);
        match (what, known) {
            (b"SETID", Some((_, at))) => *at = position,
            (b"SETID", None) => return Reply::error("NOGROUP No such consumer group"),
            (b"CREATE", None) => stream.groups.push((group.into(), position)),
            (b"CREATE", Some(_)) => return Reply::error("BUSYGROUP Consumer Group name already exists"),
            _ => stream.groups.retain(|(name, _)| **name != *group),
        }
        Reply::Status("OK")
    }
}
