//! Section 6: valid and invalid UTF-8, whole and in pieces.

use super::{Case, DATA, End, GREEK, check};
use crate::harness::wire::{FIN, TEXT, fragments, frame, ping_text, shown};

/// Rules: close-1007.
#[tokio::test]
async fn section_6_utf8() {
    let failed = |name: &str| Case::new(name, End::Failed(DATA));
    let clean = |name: &str| Case::new(name, End::Clean);
    let whole = |payload: &[u8]| frame(FIN | TEXT, payload);
    let valid = ping_text(7, GREEK);
    let invalid = ping_text(7, &[GREEK, b"\xed\xa0\x80edited"].concat());
    let beyond = ping_text(7, &[GREEK, b"\xf4\x90\x80\x80edited"].concat());
    let at = beyond.iter().position(|byte| *byte == 0xf4).unwrap();
    let letters = |text: &[u8]| fragments(TEXT, text.chunks(1));
    let parts = |text: &'static [usize]| {
        let mut cut = vec![&beyond[..at]];
        cut.extend(text.windows(2).map(|cut| &beyond[at + cut[0]..at + cut[1]]));
        cut.push(&beyond[at + text.last().unwrap()..]);
        cut
    };
    let mut cases = vec![
        failed("6.1.1").send([whole(b"")]),
        failed("6.1.2").send(fragments(TEXT, [&b""[..], b"", b""])),
        clean("6.1.3").send(fragments(TEXT, [b"", &valid[..], b""])).answer(7),
        clean("6.2.1").send([whole(&valid)]).answer(7),
        clean("6.2.2").send(fragments(TEXT, [&valid[..at], &valid[at..]])).answer(7),
        clean("6.2.3").send(letters(&valid)).answer(7),
        clean("6.2.4").send(letters(&ping_text(7, b"\xce\xba"))).answer(7),
        failed("6.3.1").send([whole(&invalid)]),
        failed("6.3.2").send(letters(&invalid)),
        failed("6.4.1").send(fragments(TEXT, parts(&[0, 4]))),
        failed("6.4.2").send(fragments(TEXT, parts(&[0, 2]))),
        failed("6.4.3").chop(at + 8, [whole(&beyond)]),
        failed("6.4.4").chop(1, [whole(&beyond)]),
    ];
    for (section, sequences) in sequences().into_iter().enumerate() {
        for (number, bytes) in sequences.into_iter().enumerate() {
            let ok = std::str::from_utf8(&bytes).is_ok();
            let name = format!("6.{}.{}: {}", section + 5, number + 1, shown(&bytes));
            let case = if ok { clean(&name) } else { failed(&name) };
            let case = case.send([whole(&ping_text(9, &bytes))]);
            cases.push(if ok { case.answer(9) } else { case });
        }
    }
    check(cases, &[]).await;
}

/// Returns the sequences of 6.5 to 6.23, from Markus Kuhn's stress test of decoders.
fn sequences() -> Vec<Vec<Vec<u8>>> {
    let owned = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
    let cut: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let continuations = (0x80..0xbf).collect();
    let lonely = [0xc0..0xdf, 0xe0..0xef, 0xf0..0xf7, 0xf8..0xfb, 0xfc..0xfd];
    let surrogates: Vec<_> = [[0xa0, 0x80], [0xad, 0xbf], [0xae, 0x80], [0xaf, 0xbf]]
        .map(|end| [&[0xed][..], &end].concat())
        .into();
    let low: [&[u8]; 2] = [b"\xed\xb0\x80", b"\xed\xbf\xbf"];
    let mut beyond_planes = owned(&[b"\xef\xbf\xbe", b"\xef\xbf\xbf"]);
    for one in 0xf0..=0xf4u8 {
        for two in [0x8f, 0x9f, 0xaf, 0xbf] {
            let bytes = [0xbe, 0xbf].map(|last| vec![one, two, 0xbf, last]);
            beyond_planes.extend(
                bytes.into_iter().filter(|_| (one, two) != (0xf0, 0x8f) && (one < 0xf4 || two == 0x8f)),
            );
        }
    }
    vec![
        owned(&[
            b"hello\x24world",
            b"hello\xc2\xa2world",
            b"hello\xe2\x82\xacworld",
            b"hello\xf0\xa4\xad\xa2world",
            GREEK,
        ]),
        (1..=GREEK.len()).map(|length| GREEK[..length].to_vec()).collect(),
        owned(&[b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        owned(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        owned(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        owned(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        owned(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"]),
        [
            (1..=6).map(|count| b"\x80\xbf".iter().copied().cycle().take(count).collect()).collect(),
            vec![b"\xbf".to_vec(), continuations],
        ]
        .concat(),
        lonely.map(|starts| starts.flat_map(|start| [start, b' ']).collect()).into(),
        owned(&cut),
        vec![cut.concat()],
        owned(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        owned(&[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
        owned(&[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
        owned(&[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
        [surrogates.clone(), owned(&[b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"])].concat(),
        surrogates.iter().flat_map(|high| low.map(|low| [high, low].concat())).collect(),
        beyond_planes,
        (0xb9..=0xbf).map(|last| vec![0xef, 0xbf, last]).collect(),
    ]
}
