//! Black-box tests: the real binary against real Redis servers that the tests start themselves. They check
//! the promises of `docs/protocol.md`, with one file per feature.

#![allow(clippy::unwrap_used)]

use roomlog_testkit as harness;

#[path = "../torture/model/mod.rs"]
#[allow(dead_code)]
mod model;

mod acks;
mod acl;
mod alerts;
mod chaos;
mod cli;
mod client;
mod clocks;
mod cluster;
mod conformance;
mod connect;
mod crowd;
mod disks;
mod doctor;
mod durability;
mod durable;
mod embedded;
mod faults;
mod full;
mod history;
mod hostile;
mod keys;
mod last;
mod left;
mod limits;
mod logs;
mod malformed;
mod many;
mod observability;
mod page;
mod problems;
mod proxy;
mod publish;
mod rates;
mod readme;
mod reads;
mod release;
mod renewals;
mod replica;
mod rest;
mod retention;
mod rewinds;
mod scale;
mod secured;
mod security;
mod shards;
mod shutdown;
mod signal;
mod soak;
mod sse;
mod subscribe;
mod tails;
mod terminal;
mod tidy;
mod tls;
mod tokens;
mod top;
mod traces;
