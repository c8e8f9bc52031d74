//! The applicable cases of the Autobahn WebSocket test suite, under its numbers. That suite expects an echo
//! of its messages. Here, a message is a `ping` of the protocol with a `ref`, and its answer stands for the
//! echo.
//!
//! Differences: an empty message is not a frame of the protocol, so 1.1.1, 1.2.1, 6.1.1 and 6.1.2 expect
//! 1007. Raw control characters are not JSON, so 6.7.1 is not among those of 6.5 to 6.23. Of ten pings at
//! once (2.10, 2.11) RFC 6455 lets a server answer only the last. 12 and 13 are about compression, which is
//! not negotiated. 7.13 leaves open how it ends.

mod utf8;

use serde_json::json;

use crate::harness::wire::{
    BINARY, CLOSE, CONTINUE, FIN, PING, PONG, Seen, TEXT, Wire, close, fragments, frame, ping_of, ping_text,
};
use crate::harness::{Client, Redis, Server, Upgrade, everything, id_of, redis_and_server};

const PROTOCOL: &[u16] = &[1002];
const DATA: &[u16] = &[1007];
const HELLO: &[u8] = b"Hello, world!";
/// Greek, in two and three bytes a letter.
const GREEK: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

/// A step of a case.
enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Expects this, and nothing else before it.
    See(Seen),
}

/// The end of a case.
enum End {
    /// The client closes with 1000, and so does the server.
    Clean,
    /// The server ends the connection with one of these codes, and answers nothing any more.
    Failed(&'static [u16]),
    /// The server answers the client's close, with one of these codes or none.
    Closed(&'static [u16]),
}

struct Case {
    name: String,
    msgpack: bool,
    steps: Vec<Step>,
    end: End,
}

impl Case {
    fn new(name: impl ToString, end: End) -> Self {
        Self { name: name.to_string(), msgpack: false, steps: Vec::new(), end }
    }

    fn msgpack(self, msgpack: bool) -> Self {
        Self { msgpack, ..self }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Sends each of these at once.
    fn send(self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        pieces.into_iter().fold(self, |case, piece| case.step(Step::Send(piece)))
    }

    /// Sends all of these in pieces of `size` bytes.
    fn chop(self, size: usize, pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let all: Vec<u8> = pieces.into_iter().flatten().collect();
        self.send(all.chunks(size).map(<[u8]>::to_vec))
    }

    fn answer(self, reference: u64) -> Self {
        self.step(Step::See(Seen::Answer(reference)))
    }

    fn pong(self, payload: &[u8]) -> Self {
        self.step(Step::See(Seen::Pong(payload.to_vec())))
    }

    async fn run(self, server: &Server) {
        let Self { name, msgpack, steps, end } = self;
        let mut wire = Wire::connect(server, msgpack).await;
        for step in steps {
            match step {
                Step::Send(bytes) => wire.send(&bytes).await,
                Step::See(expected) => assert_eq!(wire.next().await, expected, "{name}"),
            }
        }
        let codes = match end {
            End::Clean => {
                wire.send(&close(1000, b"")).await;
                &[1000]
            }
            End::Failed(codes) | End::Closed(codes) => codes,
        };
        match wire.next().await {
            Seen::Close(Some(code)) => assert!(codes.contains(&code), "{name}: closed with {code}"),
            Seen::Close(None) => assert!(matches!(end, End::Closed(_)), "{name}: closed without a code"),
            // If bytes from the client were unread, the system may cut the connection short.
            Seen::End => return assert!(matches!(end, End::Failed(_)), "{name}: no close"),
            other => panic!("{name}: {other:?} in place of the end"),
        }
        assert_eq!(wire.next().await, Seen::End, "{name}");
    }
}

async fn check(cases: impl IntoIterator<Item = Case>, env: &[(&str, &str)]) {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), env).await;
    let mut bystander = Client::connect(&server, &everything("bob")).await;
    bystander.join("room").await;
    for case in cases {
        case.run(&server).await;
    }
    let id = bystander.publish("room", json!(1)).await;
    assert_eq!(id_of(&bystander.expect("message").await), id);
}

fn ping() -> Vec<u8> {
    frame(FIN | PING, b"")
}

/// Returns a whole `ping` of the protocol, with the `ref` 1.
fn hello() -> Vec<u8> {
    frame(FIN | TEXT, &ping_text(1, HELLO))
}

fn data(msgpack: bool) -> u8 {
    if msgpack { BINARY } else { TEXT }
}

/// Rules: close-1007.
#[tokio::test]
async fn section_1_framing() {
    let mut cases = Vec::new();
    for (section, msgpack) in [(1, false), (2, true)] {
        let name = |case| format!("1.{section}.{case}");
        cases.push(
            Case::new(name(1), End::Failed(DATA)).msgpack(msgpack).send([frame(FIN | data(msgpack), b"")]),
        );
        let sizes = [(2, 125), (3, 126), (4, 127), (5, 128), (6, 65_535), (7, 65_536)];
        for (case, size) in sizes {
            let payload = ping_of(msgpack, case, size);
            assert!(payload.len() <= size && payload.len() + 1 >= size);
            cases.push(
                Case::new(name(case), End::Clean)
                    .msgpack(msgpack)
                    .send([frame(FIN | data(msgpack), &payload)])
                    .answer(case),
            );
        }
        let whole = frame(FIN | data(msgpack), &ping_of(msgpack, 8, 65_536));
        cases.push(Case::new(name(8), End::Clean).msgpack(msgpack).chop(997, [whole]).answer(8));
    }
    check(cases, &[]).await;
}

/// Rules: conn-3.
#[tokio::test]
async fn section_2_pings_and_pongs() {
    let binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let mut cases = Vec::new();
    for (name, payload) in [("2.1", &b""[..]), ("2.2", HELLO), ("2.3", binary), ("2.4", &[0xfe; 125])] {
        cases.push(Case::new(name, End::Clean).send([frame(FIN | PING, payload)]).pong(payload));
    }
    let ten = |name| {
        let pings: Vec<_> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
        let case = Case::new(name, End::Clean);
        (case, pings.iter().map(|payload| frame(FIN | PING, payload)).collect::<Vec<_>>())
    };
    cases.extend([
        Case::new("2.5", End::Failed(PROTOCOL)).send([frame(FIN | PING, &[0xfe; 126])]),
        Case::new("2.6", End::Clean).chop(1, [frame(FIN | PING, &[0xfe; 125])]).pong(&[0xfe; 125]),
        Case::new("2.7", End::Clean).send([frame(FIN | PONG, b"")]),
        Case::new("2.8", End::Clean).send([frame(FIN | PONG, b"unsolicited pong payload")]),
        Case::new("2.9", End::Clean)
            .send([frame(FIN | PONG, b"unsolicited"), frame(FIN | PING, b"ping")])
            .pong(b"ping"),
    ]);
    check(cases, &[]).await;

    // 2.10 and 2.11: pongs arrive in the order of the pings, and the last is among them.
    let (_redis, server) = redis_and_server().await;
    for chopped in [false, true] {
        let mut wire = Wire::connect(&server, false).await;
        let (_, pings) = ten("2.10");
        let all = pings.concat();
        for piece in all.chunks(if chopped { 1 } else { all.len() }) {
            wire.send(piece).await;
        }
        let mut last = -1;
        while last < 9 {
            let Seen::Pong(payload) = wire.next().await else { panic!("no pong") };
            let number =
                String::from_utf8(payload).unwrap().strip_prefix("payload-").unwrap().parse().unwrap();
            assert!(number > last, "{number} after {last}");
            last = number;
        }
    }
}

/// Rules: err-2, close-1002.
#[tokio::test]
async fn section_3_reserved_bits() {
    let reserved = |bits: u8, opcode, payload: &[u8]| frame(FIN | bits << 4 | opcode, payload);
    let failed = |name| Case::new(name, End::Failed(PROTOCOL));
    let text = ping_text(2, HELLO);
    check(
        [
            failed("3.1").send([reserved(1, TEXT, &text)]),
            failed("3.2").send([[hello(), reserved(2, TEXT, &text), ping()].concat()]).answer(1),
            failed("3.3").send([hello(), reserved(3, TEXT, &text), ping()]).answer(1),
            failed("3.4").chop(1, [hello(), reserved(4, TEXT, &text), ping()]).answer(1),
            failed("3.5").msgpack(true).send([reserved(5, BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
            failed("3.6").send([reserved(6, PING, HELLO)]),
            failed("3.7").send([reserved(7, CLOSE, b"")]),
        ],
        &[],
    )
    .await;
}

/// Rules: err-2, close-1002.
#[tokio::test]
async fn section_4_opcodes() {
    let failed = |name: &str| Case::new(name, End::Failed(PROTOCOL));
    let mut cases = Vec::new();
    for (section, first) in [(1, 3), (2, 11)] {
        let name = |case: u8| format!("4.{section}.{case}");
        let unknown = |case: u8, payload: &[u8]| frame(FIN | (first + case - 1), payload);
        cases.extend([
            failed(&name(1)).send([unknown(1, b"")]),
            failed(&name(2)).send([unknown(2, b"reserved opcode payload")]),
            failed(&name(3)).send([hello(), unknown(3, b""), ping()]).answer(1),
            failed(&name(4)).send([[hello(), unknown(4, HELLO), ping()].concat()]).answer(1),
            failed(&name(5)).chop(1, [hello(), unknown(5, HELLO), ping()]).answer(1),
        ]);
    }
    check(cases, &[]).await;
}

/// Rules: close-1002.
#[tokio::test]
async fn section_5_fragmentation() {
    let failed = |name: &str| Case::new(name, End::Failed(PROTOCOL));
    let clean = |name: &str| Case::new(name, End::Clean);
    let text = ping_text(123_456, HELLO);
    // Splits within the digits of the `ref`: an answer with all digits proves that both parts arrived.
    let (start, rest) = text.split_at(21);
    let two = || fragments(TEXT, [start, rest]);
    let with_ping = || [two()[0].clone(), frame(FIN | PING, b"ping payload"), two()[1].clone()];
    let continued = |first, payload: &[u8]| frame(first | CONTINUE, payload);
    let mut cases = vec![
        failed("5.1").send([frame(PING, b"fragment1"), continued(FIN, b"fragment2")]),
        failed("5.2").send([frame(PONG, b"fragment1"), continued(FIN, b"fragment2")]),
        clean("5.3").send([two().concat()]).answer(123_456),
        clean("5.4").send(two()).answer(123_456),
        clean("5.5").chop(1, two()).answer(123_456),
        clean("5.6").send([with_ping().concat()]).pong(b"ping payload").answer(123_456),
        clean("5.7").send(with_ping()).pong(b"ping payload").answer(123_456),
        clean("5.8").chop(1, with_ping()).pong(b"ping payload").answer(123_456),
        failed("5.15")
            .send([[two(), vec![continued(0, b"fragment3"), hello()]].concat().concat()])
            .answer(123_456),
        failed("5.18").send([frame(TEXT, start), frame(FIN | TEXT, rest)]),
    ];
    for (name, last) in [("5.9", FIN), ("5.12", 0)] {
        let (first, number) = name.split_once('.').unwrap();
        let name = |more| format!("{first}.{}", number.parse::<u8>().unwrap() + more);
        let frames = [continued(last, b"non-continuation payload"), hello()];
        cases.push(failed(&name(0)).send([frames.concat()]));
        cases.push(failed(&name(1)).send(frames.clone()));
        cases.push(failed(&name(2)).chop(1, frames));
    }
    for (name, last) in [("5.16", 0), ("5.17", FIN)] {
        let once = [vec![continued(last, b"fragment1")], two()].concat();
        cases.push(failed(name).send([once.clone(), once].concat()));
    }
    for (name, chop) in [("5.19", 4096), ("5.20", 1)] {
        let parts = fragments(TEXT, text.chunks(text.len().div_ceil(5)));
        let [one, two, three, four, five] = &parts[..] else { panic!("{} parts", parts.len()) };
        let pings = [frame(FIN | PING, b"pongme 1!"), frame(FIN | PING, b"pongme 2!")];
        cases.push(
            clean(name)
                .chop(chop, [one.clone(), two.clone(), pings[0].clone()])
                .pong(b"pongme 1!")
                .chop(chop, [three.clone(), four.clone(), pings[1].clone(), five.clone()])
                .pong(b"pongme 2!")
                .answer(123_456),
        );
    }
    check(cases, &[]).await;
}

/// Rules: err-2, close-1002.
#[tokio::test]
async fn section_7_close() {
    let closed = |name: &str| Case::new(name, End::Closed(&[1000]));
    let failed = |name: &str| Case::new(name, End::Failed(PROTOCOL));
    let normal = || close(1000, b"");
    let [one, two] = &fragments(TEXT, [&b"frag"[..], b"ment"])[..] else { panic!() };
    let large = frame(FIN | TEXT, &ping_of(false, 5, 256 * 1024));
    let mut cases = vec![
        closed("7.1.1").send([hello(), normal()]).answer(1),
        closed("7.1.2").send([[normal(), frame(FIN | CLOSE, b"")].concat()]),
        closed("7.1.3").send([[normal(), ping()].concat()]),
        closed("7.1.4").send([[normal(), hello()].concat()]),
        closed("7.1.5").send([[one.clone(), normal(), two.clone()].concat()]),
        closed("7.1.6").send([[large, hello(), normal(), ping()].concat()]).answer(5).answer(1),
        closed("7.3.1").send([frame(FIN | CLOSE, b"")]),
        failed("7.3.2").send([frame(FIN | CLOSE, b"a")]),
        closed("7.3.3").send([normal()]),
        closed("7.3.4").send([close(1000, HELLO)]),
        closed("7.3.5").send([close(1000, &[b'*'; 123])]),
        failed("7.3.6").send([close(1000, &[b'*'; 124])]),
        Case::new("7.5.1", End::Failed(DATA)).send([close(1000, &[GREEK, b"\xed\xa0\x80edited"].concat())]),
    ];
    for code in [
        &[1000][..],
        &[1001],
        &[1002],
        &[1003],
        &[1007],
        &[1008],
        &[1009],
        &[1010],
        &[1011],
        &[3000],
        &[3999],
        &[4000],
        &[4999],
    ] {
        cases.push(Case::new(format!("7.7 {code:?}"), End::Closed(code)).send([close(code[0], b"")]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999] {
        cases.push(failed(&format!("7.9 {code}")).send([close(code, b"")]));
    }
    for code in [5000, 65_535] {
        cases.push(failed(&format!("7.13 {code}")).send([close(code, b"")]));
    }
    check(cases, &[]).await;
}

/// Rules: close-1009.
#[tokio::test]
async fn section_9_limits_and_10() {
    const KB: usize = 1024;
    const MB: usize = 1024 * KB;
    let mut cases = Vec::new();
    for (add, msgpack) in [(0, false), (1, true)] {
        let case = |section: u8, what: usize| {
            Case::new(format!("9.{} {what}", section + add), End::Clean).msgpack(msgpack)
        };
        let kind = data(msgpack);
        for size in [64 * KB, 256 * KB, MB, 4 * MB, 8 * MB, 16 * MB] {
            cases.push(case(1, size).send([frame(FIN | kind, &ping_of(msgpack, 1, size))]).answer(1));
        }
        for size in [64, 256, KB, 4 * KB, 16 * KB, 64 * KB, 256 * KB, MB, 4 * MB] {
            let message = ping_of(msgpack, 1, 4 * MB);
            cases.push(case(3, size).send([fragments(kind, message.chunks(size)).concat()]).answer(1));
        }
        for size in [64, 128, 256, 512, KB, 2 * KB] {
            cases.push(case(5, size).chop(size, [frame(FIN | kind, &ping_of(msgpack, 1, MB))]).answer(1));
        }
        for size in [0, 16, 64, 256, KB, 4 * KB] {
            let message = frame(FIN | kind, &ping_of(msgpack, 1, size));
            cases.push((0..1000).fold(case(7, size), |case, _| case.send([message.clone()]).answer(1)));
        }
    }
    let message = ping_of(false, 1, 64 * KB);
    cases.push(Case::new("10.1.1", End::Clean).send(fragments(TEXT, message.chunks(1300))).answer(1));
    let endless = std::iter::repeat_n(frame(CONTINUE, &[b'*'; 4 * KB]), 4096);
    let start = std::iter::once(frame(TEXT, &[b'*'; 4 * KB]));
    cases.push(Case::new("9.9.1", End::Failed(&[1009])).send(start.chain(endless)));
    check(cases, &[("ROOMLOG_LIMITS__MAX_MESSAGE", "1MiB"), ("ROOMLOG_LIMITS__OUTBOX", "1MiB")]).await;
}

#[tokio::test]
async fn no_extension_is_negotiated() {
    let (_redis, server) = redis_and_server().await;
    let offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits".to_owned());
    let upgrade = Upgrade { headers: vec![offer], ..Upgrade::default() };
    // The client fails the upgrade if the answer names an extension that it did not choose itself.
    let mut client = Client::connect_with(&server, &everything("ann"), upgrade).await;
    assert_eq!(client.settled().await, Vec::<serde_json::Value>::new());
}
