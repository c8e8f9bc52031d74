//! The display. All that matters fits on 80 columns and 24 lines. Colour means trouble, and nothing else.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Widget};

use super::figures::{Figures, Overview, State};

const COLUMNS: [(&str, u16); 10] = [
    ("node", 21),
    ("state", 5),
    ("conns", 6),
    ("subs", 6),
    ("behind", 6),
    ("pub/s", 5),
    ("dlv/s", 5),
    ("p99", 6),
    ("cpu", 5),
    ("mem", 5),
];

const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

pub(super) fn draw(frame: &mut Frame<'_>, overview: &Overview) {
    overview.render(frame.area(), frame.buffer_mut());
}

pub(super) fn text(overview: &Overview) -> String {
    let area = Rect::new(0, 0, 80, 8 + overview.nodes.len() as u16);
    let mut buffer = Buffer::empty(area);
    overview.render(area, &mut buffer);
    let rows = buffer.content.chunks(usize::from(area.width));
    let line = |row: &[ratatui::buffer::Cell]| {
        row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.map(line).collect()
}

impl Widget for &Overview {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let [head, figures, nodes] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(6), Constraint::Min(2)]).areas(area);
        let (ready, known) = (self.ready(), self.nodes.len());
        let state = Span::styled(format!("{ready} of {known} ready"), worse(ready < known));
        Line::from(vec!["Roomlog  ".bold(), state]).render(head, buffer);
        Line::from("q quits").right_aligned().render(head, buffer);
        Paragraph::new(lines(&self.all)).render(figures, buffer);
        let widths = COLUMNS.map(|(_, width)| Constraint::Length(width));
        let header = Row::new(COLUMNS.map(|(name, _)| name)).style(Style::new().add_modifier(Modifier::DIM));
        Widget::render(Table::new(self.nodes.iter().map(row), widths).header(header), nodes, buffer);
    }
}

fn worse(is_worse: bool) -> Style {
    if is_worse { BAD } else { Style::new() }
}

fn lines(all: &Figures) -> Vec<Line<'static>> {
    let label = |name: &'static str| Span::from(format!("{name:<14}")).dim();
    let spread = |name, buckets: &super::samples::Buckets| {
        let of = |quantile| duration(buckets.quantile(quantile));
        let [p50, p99, p999] = [of(0.5), of(0.99), of(0.999)];
        Line::from(vec![label(name), Span::from(format!("p50 {p50:<8} p99 {p99:<8} p99.9 {p999}"))])
    };
    let zero =
        |name: &str, count: f64| Span::styled(format!("{name} {}   ", short(count)), worse(count > 0.0));
    let (published, delivered) = (rate(all.published), rate(all.delivered));
    let refused = Span::styled(format!("refused {}/s", rate(all.refused)), worse(all.refused > Some(0.0)));
    let durability = if all.durable_as_wanted { "as requested" } else { "LESS THAN REQUESTED" };
    vec![
        Line::from(vec![
            label("messages"),
            Span::from(format!("confirmed {published}/s   delivered {delivered}/s   ")),
            refused,
        ]),
        spread("publish", &all.publish),
        spread("delivery", &all.delivery),
        spread("probe", &all.probe),
        Line::from(vec![
            label("must be 0"),
            zero("rewinds", all.rewinds),
            zero("gaps", all.gaps),
            zero("trimmed unacknowledged", all.overrun),
        ]),
        Line::from(vec![
            label("durable"),
            Span::from(format!("lag {}   oldest {}   ", short(all.lag), duration(Some(all.unacknowledged)))),
            Span::styled(format!("durability {durability}"), worse(!all.durable_as_wanted)),
        ]),
    ]
}

fn row(node: &Figures) -> Row<'static> {
    let name = node.node.clone();
    let (state, is_bad) = match &node.state {
        State::Ready => ("ready".to_owned(), false),
        State::NotReady => ("NOT".to_owned(), true),
        State::Unreachable(reason) => return Row::new([name, "GONE".into(), reason.clone()]).style(BAD),
    };
    let cells = [
        name,
        state,
        short(node.connections),
        short(node.subscriptions),
        short(node.catching_up),
        rate(node.published),
        rate(node.delivered),
        duration(node.delivery.quantile(0.99).or(node.publish.quantile(0.99))),
        node.cpu.map_or("-".into(), |cores| format!("{cores:.2}")),
        bytes(node.memory),
    ];
    Row::new(cells).style(worse(is_bad))
}

/// Formats a number in at most five characters.
fn short(number: f64) -> String {
    match number {
        0.0 => "0".into(),
        number if number < 9.95 && number.fract() != 0.0 => format!("{number:.1}"),
        number if number < 99_999.5 => format!("{number:.0}"),
        number if number < 9_999_500.0 => format!("{:.0}k", number / 1e3),
        number => format!("{:.0}M", number / 1e6),
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".into(), short)
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(seconds) if seconds < 0.01 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) if seconds < 100.0 => format!("{seconds:.1}s"),
        Some(seconds) if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        Some(seconds) if seconds < 172_800.0 => format!("{:.0}h", seconds / 3600.0),
        Some(seconds) => format!("{:.0}d", seconds / 86_400.0),
    }
}

fn bytes(bytes: f64) -> String {
    if bytes < 1e9 { format!("{:.0}M", bytes / 1e6) } else { format!("{:.1}G", bytes / 1e9) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::samples::Samples;
    use super::*;

    fn overview() -> Overview {
        let before = Samples::read(
            "roomlog_build_info 1\nroomlog_publishes_total{class=\"a\",outcome=\"stored\"} 100\n\
             roomlog_delivery_seconds_bucket{class=\"a\",le=\"0.002\"} 0\n",
        );
        let now = Samples::read(
            "roomlog_build_info 1\nroomlog_ready 1\nroomlog_durability_as_wanted 1\n\
             roomlog_connections{transport=\"websocket\"} 12345\nroomlog_connections{transport=\"sse\"} 5\n\
             roomlog_publishes_total{class=\"a\",outcome=\"stored\"} 3100\n\
             roomlog_delivery_seconds_bucket{class=\"a\",le=\"0.002\"} 99\n\
             roomlog_delivery_seconds_bucket{class=\"a\",le=\"+Inf\"} 100\n\
             roomlog_gaps_total{class=\"a\",reason=\"rewound\"} 2\nprocess_resident_memory_bytes 123456789\n",
        );
        let node = Figures::of("10.0.0.1:8080".into(), &now, Some((&before, 2.0)));
        let gone = Figures::unreachable("10.0.0.2:8080".into(), "Connection refused (os error 111)");
        Overview::of(vec![node, gone])
    }

    #[test]
    fn the_display_fits_80_columns_and_24_lines_and_only_trouble_is_red() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &overview())).unwrap();
        let buffer = terminal.backend().buffer();
        let screen: Vec<String> = buffer
            .content
            .chunks(80)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect();
        let red: String =
            buffer.content.iter().filter(|cell| cell.fg == Color::Red).map(|cell| cell.symbol()).collect();
        assert_eq!(screen[0], format!("{:<73}q quits", "Roomlog  1 of 2 ready"));
        assert_eq!(screen[1], "messages      confirmed 1500/s   delivered 0/s   refused 0/s");
        assert_eq!(screen[3], "delivery      p50 1.0ms    p99 2.0ms    p99.9 2.0ms");
        assert_eq!(screen[5], "must be 0     rewinds 2   gaps 0   trimmed unacknowledged 0");
        assert_eq!(
            screen[8],
            "10.0.0.1:8080         ready 12350  0      0      1500  0     2.0ms  0.00  123M"
        );
        assert!(screen[9].starts_with("10.0.0.2:8080         GONE  Connec"), "{}", screen[9]);
        assert!(red.contains("1 of 2 ready") && red.contains("rewinds 2") && red.contains("GONE"), "{red}");
        assert!(!red.contains("gaps 0") && !red.contains("10.0.0.1"), "{red}");
        assert_eq!(text(&overview()).lines().collect::<Vec<_>>(), screen[..10]);
    }
}
