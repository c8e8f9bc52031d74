//! The state of a schedule besides its tasks: its random generator, its clock, the servers, and everything
//! known of every entry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::bugs::{self, Bug};
use super::data::{Data, Id, Reply, Text, Words};
use super::library::{Added, Context, Library, SERVERS};
use super::network::{Kind, Place, Rates};
use super::record::{Record, Told};

/// The approximate time of Redis's clock at the start of a schedule, in Unix ms: a multiple of the
/// deduplication windows.
const BEGINNING: u64 = 1_700_000_000_000;

pub(super) const ROOM: &str = "room";

pub(super) const LOG: &[u8] = b"rl:{room}:log";

const HEAD: &[u8] = b"rl:{room}:head";

pub(super) const SUBS: &[u8] = b"rl:{room}:subs";

pub(crate) struct Server {
    pub context: Context,
    /// Its clock's offset from the schedule's clock, in µs.
    pub ahead_us: i64,
    /// Number of ids that it has of those given by the servers before it: the first `inherits` of them.
    pub inherits: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub key: u128,
    pub removed: bool,
    pub deleted: bool,
    pub server: usize,
    /// The id before it in that log.
    pub after: Option<Id>,
    pub number: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    /// The moment from which writes may be lost, in the order of the record.
    pub from: usize,
    /// The moment since which no node writes to the old server, in the order of the record.
    pub till: usize,
}

struct Replica {
    data: Data,
    /// The moment of that state, in the order of the record.
    from: usize,
    given: usize,
}

pub(crate) struct World {
    pub rng: fastrand::Rng,
    pub now_us: u64,
    /// The beginning by Redis's clock, in Unix microseconds.
    pub began_us: u64,
    pub servers: Vec<Server>,
    pub places: Vec<Place>,
    pub rates: Rates,
    pub entries: HashMap<Id, Known>,
    /// Their ids, in the order in which they were given.
    pub given: Vec<Id>,
    pub record: Record,
    replica: Option<Replica>,
    pub losses: Vec<Loss>,
    /// Set once nodes have written to two servers at the same time.
    pub split: bool,
    pub deletions: usize,
    /// Set if clocks of servers differ, or are changed.
    pub clocks_differ: bool,
    deleting: usize,
    /// The moment of the last questions, in the order of the record.
    pub asked_at_last: usize,
    pub head_at_last: Id,
    /// Things that servers did and must not do.
    pub wrong: Vec<String>,
    /// The reason why this schedule proves nothing, if an assumption does not hold.
    pub void: Option<&'static str>,
    pub trace: Option<Vec<String>>,
    library: Rc<Library>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static LIBRARIES: RefCell<HashMap<Option<Bug>, Rc<Library>>> = RefCell::default();
}

/// Runs a closure on the world. The closure must never call into a node.
pub(super) fn in_world<T>(work: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| work(world.as_mut().expect("there is a simulation")))
}

pub(super) fn begin(world: World) {
    WORLD.set(Some(world));
}

pub(super) fn end() -> Option<World> {
    WORLD.take()
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let bug = bugs::planted().filter(|bug| bug.is_in_library());
        let load = || Rc::new(Library::load(bug).expect("the library can be loaded"));
        let library =
            LIBRARIES.with_borrow_mut(|libraries| libraries.entry(bug).or_insert_with(load).clone());
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            now_us: 0,
            began_us: BEGINNING * 1000,
            servers: Vec::new(),
            places: Vec::new(),
            rates: Rates::default(),
            entries: HashMap::new(),
            given: Vec::new(),
            record: Record::default(),
            replica: None,
            losses: Vec::new(),
            split: false,
            deletions: 0,
            clocks_differ: false,
            deleting: 0,
            asked_at_last: usize::MAX,
            head_at_last: (0, 0),
            wrong: Vec::new(),
            void: None,
            trace: traced.then(Vec::new),
            library,
        };
        world.start_server(Data::default(), 0, 0);
        world
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} ms  {}", self.now_us as f64 / 1000.0, what()));
        }
    }

    fn start_server(&mut self, data: Data, inherits: usize, ahead_us: i64) {
        let history = format!("{:032x}{:08x}", u128::from(self.rng.u64(1..)) << 64, self.servers.len());
        self.library.reset(self.servers.len());
        self.servers.push(Server { context: Context::new(data, history), ahead_us, inherits });
    }

    pub(crate) fn may_fail_over(&self) -> bool {
        self.servers.len() < SERVERS && self.deleting == 0 && !self.is_asked(b"_delete")
    }

    /// Makes a new server take over, with the state of the replica. Nodes connect to it, each at a time of
    /// its own if `split` is set.
    pub(crate) fn fail_over(&mut self, split: bool, ahead_us: i64) {
        let newest = self.servers.len() - 1;
        let Replica { data, from, given } = self.replica.take().unwrap_or_else(|| self.copy());
        self.note(|| {
            format!("server {} takes over{}", newest + 1, if split { ", unknown to some" } else { "" })
        });
        self.start_server(data, given, ahead_us);
        self.split |= split;
        self.losses.push(Loss { from, till: usize::MAX });
        for node in 0..self.places.len() {
            if !self.places[node].alive {
                continue;
            }
            if split && self.rng.bool() {
                let moves = self.now_us + self.some_time(2000);
                self.places[node].moves = Some(moves);
            } else {
                self.move_node(node);
            }
        }
    }

    /// Notes that losses are over, once all nodes are connected to the newest server.
    pub(crate) fn end_losses(&mut self) {
        let newest = self.servers.len() - 1;
        if self.places.iter().all(|place| !place.alive || place.server == newest) {
            let order = self.record.order();
            for loss in self.losses.iter_mut().filter(|loss| loss.till == usize::MAX) {
                loss.till = order;
            }
        }
    }

    /// Makes a replica that is in step now fall behind from here on.
    pub(crate) fn lag(&mut self) {
        self.note(|| "the replica falls behind".to_owned());
        self.replica = Some(self.copy());
    }

    fn copy(&self) -> Replica {
        Replica { data: self.newest().clone(), from: self.record.order(), given: self.given.len() }
    }

    /// Returns whether the surviving history has, or had, this entry.
    pub(crate) fn inherited(&self, entry: &Known) -> bool {
        self.servers[entry.server + 1..].iter().all(|server| entry.number < server.inherits)
    }

    pub(crate) fn newest(&self) -> &Data {
        &self.servers[self.servers.len() - 1].context.data
    }

    pub(crate) fn head(&self) -> Id {
        let part = |name: &[u8]| -> u64 {
            let text = self.newest().field(HEAD, name);
            text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0)
        };
        if part(b"seq") == 0 { (0, 0) } else { (part(b"ms"), part(b"seq")) }
    }

    pub(crate) fn log(&self) -> Vec<Id> {
        ids(self.newest())
    }

    pub(crate) fn run(&mut self, server: usize, words: &Words) -> Reply {
        let function = if words.get(0) == b"FCALL" { words.get(1) } else { b"" };
        let takes_out =
            [&b"delete"[..], b"delete_message", b"trim"].iter().any(|name| function.ends_with(name));
        let of_room = function.ends_with(b"_delete");
        let state = &mut self.servers[server];
        let before = if takes_out { ids(&state.context.data) } else { Vec::new() };
        // Rounded to steps that differ by server, so that no two servers give the same id by chance.
        let ms = (self.began_us + self.now_us).wrapping_add_signed(state.ahead_us) / 1000;
        let step = SERVERS as u64;
        state.context.time_us = (ms / step * step + server as u64) * 1000 + self.now_us % 1000;
        let reply = self.library.run(server, &mut state.context, words);
        let added = std::mem::take(&mut state.context.added);
        let published = std::mem::take(&mut state.context.published);
        let after = if takes_out { ids(&state.context.data) } else { Vec::new() };
        for Added { id, after, fields } in added {
            self.entry(server, id, after, &fields);
        }
        for id in before.iter().filter(|id| !after.contains(id)) {
            if let Some(known) = self.entries.get_mut(id) {
                known.removed = true;
            }
        }
        if of_room {
            self.deletions += 1;
            self.entries.values_mut().for_each(|known| known.deleted = true);
            // A deletion is never lost.
            if self.replica.is_some() {
                self.lag();
            }
        }
        for (channel, payload) in published {
            self.publish(server, &channel, &payload);
        }
        reply
    }

    fn entry(&mut self, server: usize, id: Id, after: Option<Id>, fields: &[Text]) {
        let key =
            fields.get(1).and_then(|key| <[u8; 16]>::try_from(&**key).ok()).map_or(0, u128::from_be_bytes);
        let number = self.given.len();
        self.given.push(id);
        let known = Known { key, removed: false, deleted: false, server, after, number };
        match self.entries.insert(id, known) {
            Some(former) if former.server == server => self.wrong.push(format!("{id:?} was given twice")),
            Some(_) => self.void = Some("two servers gave the same id"),
            None => {}
        }
    }

    pub(crate) fn add_place(&mut self) -> usize {
        let newest = self.servers.len() - 1;
        self.places.push(Place::new(newest));
        self.places.len() - 1
    }

    pub(crate) fn some_place(&mut self) -> usize {
        let alive: Vec<usize> = (0..self.places.len()).filter(|place| self.places[*place].alive).collect();
        alive[self.rng.usize(..alive.len())]
    }

    pub(crate) fn kill(&mut self, place: usize) {
        self.note(|| format!("node {place} is killed"));
        for kind in Kind::ALL {
            self.cut(place, kind, 0);
        }
        self.places[place].alive = false;
    }

    pub(crate) fn set_clock(&mut self) {
        let ahead_us = self.rng.i64(-3_000_000..3_000_000);
        self.note(|| format!("the clock of Redis is set to {} ms ahead", ahead_us / 1000));
        if let Some(server) = self.servers.last_mut() {
            server.ahead_us = ahead_us;
        }
    }

    /// Begins a deletion, if there is only one server in use.
    pub(crate) fn begin_deletion(&mut self) -> bool {
        let newest = self.servers.len() - 1;
        let alone = self.places.iter().all(|place| !place.alive || place.server == newest);
        self.deleting += usize::from(alone);
        alone
    }

    pub(crate) fn end_deletion(&mut self) {
        self.deleting -= 1;
    }

    /// Draws an id that a client may name: the last one that it has read, or any that was ever given.
    pub(crate) fn some_id(&mut self, client: usize) -> Option<Id> {
        let read_to = self.record.runs.iter().rev().filter(|run| run.client == client).find_map(|run| {
            run.told.last().map(|(_, told)| match *told {
                Told::Message(id, _) | Told::Live(id) => id,
                Told::Gap(_, next, _) => (next.0, next.1.saturating_sub(1)),
            })
        });
        let given = std::mem::take(&mut self.given);
        let any = self.rng.choice(&given).copied();
        self.given = given;
        if self.rng.u32(..10) < 6 { read_to.or(any) } else { any }
    }

    pub(crate) fn newest_told(&self, connection: usize) -> Option<Id> {
        let run = &self.record.runs[self.record.connections[connection].run?];
        let told = run.told.iter().rev().find_map(|(_, told)| match told {
            Told::Message(id, _) => Some(*id),
            _ => None,
        });
        told.filter(|_| run.began.durable)
    }
}

pub(super) fn ids(data: &Data) -> Vec<Id> {
    data.stream(LOG).map(|log| log.entries.iter().map(|entry| entry.id).collect()).unwrap_or_default()
}
