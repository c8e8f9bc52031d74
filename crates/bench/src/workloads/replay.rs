//! `replay`: a long history, read from its start over REST and over WebSocket, next to bare reads of the same
//! stream from Redis. Every message is checked.

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::Deserialize;

use super::super::frame::read_data;
use super::super::load::{self, Room};
use super::super::member::{Join, Member, Record};
use super::super::report::Figures;
use super::super::tally::{Tally, count};
use super::super::{BenchError, Plan, Target};
use super::Usage;
use roomlog_protocol::Encoding;
use roomlog_testkit::{Connection, DEADLINE, Rest};

/// Messages of a page.
const PAGE: usize = 1000;

/// Bare reads in flight at a time, so that Redis never waits for this side.
const PIPELINE: usize = 8;

/// The fields of a page of history that are checked.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    more: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// The names of one way of reading in the figures.
struct Names {
    messages_per_s: &'static str,
    mb_per_s: &'static str,
    server: Option<&'static str>,
    redis: &'static str,
}

const REST: Names = Names {
    messages_per_s: "rest_messages_per_s",
    mb_per_s: "rest_mb_per_s",
    server: Some("rest_server_us_per_message"),
    redis: "rest_redis_us_per_message",
};

const WEBSOCKET: Names = Names {
    messages_per_s: "websocket_messages_per_s",
    mb_per_s: "websocket_mb_per_s",
    server: Some("websocket_server_us_per_message"),
    redis: "websocket_redis_us_per_message",
};

const BARE: Names = Names {
    messages_per_s: "bare_messages_per_s",
    mb_per_s: "bare_mb_per_s",
    server: None,
    redis: "bare_redis_us_per_message",
};

pub(super) async fn replay(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let mut figures = Figures::default();
    let rooms = load::rooms(plan, target, tally, |_| false).await?;
    tally.doing.set("filling the room");
    let started = Instant::now();
    load::closed(plan, &rooms, &Cell::new(false), plan.messages).await;
    load::check(&rooms, tally).await;
    figures.add("filled_per_s", plan.messages as f64 / started.elapsed().as_secs_f64());
    let Some(room) = rooms.first() else { return Ok(figures) };

    tally.doing.set("reading over REST");
    let usage = Usage::start(target);
    let (took, pages) = rest(plan, target, room, tally).await?;
    let rest = add(&mut figures, plan, &REST, took, &usage);

    tally.doing.set("reading over WebSocket");
    let usage = Usage::start(target);
    let took = websocket(plan, target, room, tally).await?;
    let websocket = add(&mut figures, plan, &WEBSOCKET, took, &usage);
    if let Some(generator) = usage.cpu().generator {
        figures.add("generator_cpu_percent", 100.0 * generator.as_secs_f64() / took.as_secs_f64());
    }

    if let Some(address) = target.redis_address {
        tally.doing.set("reading from Redis");
        let usage = Usage::start(target);
        let took = bare(plan, address, room, pages).await?;
        let bare = add(&mut figures, plan, &BARE, took, &usage);
        figures.add("rest_to_bare", rest / bare);
        figures.add("websocket_to_bare", websocket / bare);
    }
    Ok(figures)
}

/// Adds the results of one way of reading, and returns its messages per second. MB count the data only.
fn add(figures: &mut Figures, plan: &Plan, names: &Names, took: Duration, usage: &Usage<'_>) -> f64 {
    let (cpu, messages) = (usage.cpu(), plan.messages as f64);
    let rate = messages / took.as_secs_f64();
    figures.add(names.messages_per_s, rate);
    figures.add(names.mb_per_s, rate * plan.payload as f64 / 1e6);
    if let Some(name) = names.server {
        figures.add_cpu(name, cpu.server, messages);
    }
    figures.add_cpu(names.redis, cpu.redis, messages);
    rate
}

/// Reads page after page. Returns the time spent on answers, without the checks, and the id after which each
/// page begins.
async fn rest(
    plan: &Plan,
    target: &Target,
    room: &Room,
    tally: &Tally,
) -> Result<(Duration, Vec<String>), BenchError> {
    let path = format!("/v1/rooms/{}/messages?limit={PAGE}&after=", room.name);
    let failed = |error: reqwest::Error| BenchError::Refused(error.to_string());
    let client = Rest::at(&format!("http://{}", target.address(0))).bearing(&target.token);
    let (mut took, mut pages, mut more) = (Duration::ZERO, vec!["0-0".to_owned()], true);
    let record = Record::default();
    while let Some(after) = pages.last().filter(|_| more) {
        let mut request = client.request(Method::GET, &format!("{path}{after}"));
        if plan.encoding == Encoding::MessagePack {
            request = request.header(ACCEPT, "application/msgpack");
        }
        let asked = Instant::now();
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let body = answer.bytes().await.map_err(failed)?;
        took += asked.elapsed();

        let page: Result<Page<'_>, String> = match plan.encoding {
            Encoding::Json => serde_json::from_slice(&body).map_err(|error| error.to_string()),
            Encoding::MessagePack => rmp_serde::from_slice(&body).map_err(|error| error.to_string()),
        };
        let page = page.map_err(BenchError::Refused)?;
        for message in &page.messages {
            match read_data(&message.data) {
                Some((_, number)) => drop(record.track.borrow_mut().take(number)),
                None => tally.error(|| format!("a message in {} that nobody here published", room.name)),
            }
        }
        count(&tally.received, page.messages.len() as u64);
        more = page.more;
        pages.extend(page.messages.last().map(|message| message.id.clone().into_owned()));
    }
    finish(&record, plan, tally);
    pages.pop();
    Ok((took, pages))
}

/// Subscribes from the start of the log, until it is live.
async fn websocket(
    plan: &Plan,
    target: &Target,
    room: &Room,
    tally: &Rc<Tally>,
) -> Result<Duration, BenchError> {
    let record = Rc::<Record>::default();
    let join = Join {
        node: 0,
        room: &room.name,
        encoding: plan.encoding,
        since: Some("0"),
        durable: None,
        slow: false,
    };
    let started = Instant::now();
    let _member = Member::join(target, join, record.clone(), tally).await?;
    let took = started.elapsed();
    finish(&record, plan, tally);
    Ok(took)
}

/// Adds up the losses, duplicates and messages out of order of a reader of the whole room.
fn finish(record: &Record, plan: &Plan, tally: &Tally) {
    let track = record.track.borrow();
    count(&tally.lost, track.lost(plan.messages));
    count(&tally.duplicates, track.duplicates);
    count(&tally.reordered, track.reordered);
}

/// Reads the same pages with bare commands, several in flight at a time, on a thread of its own.
async fn bare(
    plan: &Plan,
    address: SocketAddr,
    room: &Room,
    pages: Vec<String>,
) -> Result<Duration, BenchError> {
    let key = format!("rl:{{{}}}:log", room.name);
    let reading = tokio::task::spawn_blocking({
        let key = key.clone();
        move || read_pages(address, &key, &pages)
    });
    let read = reading.await.unwrap_or_else(|error| Err(error.into()));
    let (took, read) = read.map_err(|error| BenchError::Io(format!("Redis at {address}"), error))?;
    if read != plan.messages {
        let messages = plan.messages;
        return Err(BenchError::Refused(format!(
            "{key} has {read} messages, not {messages}: another Redis?"
        )));
    }
    Ok(took)
}

/// Returns the time that this took, and the number of messages.
fn read_pages(address: SocketAddr, key: &str, pages: &[String]) -> io::Result<(Duration, u64)> {
    let mut redis = Connection::open(address, DEADLINE)?;
    let limit = PAGE.to_string();
    let mut read = 0;
    let started = Instant::now();
    for index in 0..pages.len() + PIPELINE {
        if let Some(after) = pages.get(index) {
            redis.send(&["XRANGE", key, &format!("({after}"), "+", "COUNT", &limit])?;
        }
        if index >= PIPELINE {
            read += redis.skip()?;
        }
    }
    Ok((started.elapsed(), read))
}
