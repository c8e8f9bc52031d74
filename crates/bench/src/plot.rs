//! Charts of the results, as SVG: bars for one workload, lines for a sweep. Readable on light and dark pages.

use std::error::Error;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::BenchError;
use super::Workload;
use super::report::{Report, shown, words};
use super::sweep::Sweep;

/// Size in pixels of a chart with two panels.
const SIZE: (u32, u32) = (960, 400);

const FONT: (&str, i32) = ("system-ui, sans-serif", 14);
const SMALL: (&str, i32) = ("system-ui, sans-serif", 12);

/// Maximum number of bars in a group that leaves space for labels.
const LABELLED: usize = 4;

/// A colour for each server, distinct on white and on black.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0x3b, 0x7d, 0xd8),
    RGBColor(0x8b, 0x94, 0x9e),
    RGBColor(0xe0, 0x7b, 0x28),
    RGBColor(0x3a, 0xa6, 0x55),
    RGBColor(0xb0, 0x5c, 0xc8),
    RGBColor(0xd8, 0x4b, 0x5a),
    RGBColor(0x1f, 0xa8, 0xa8),
    RGBColor(0xc9, 0xa2, 0x27),
    RGBColor(0x9c, 0x6b, 0x4a),
    RGBColor(0xd9, 0x7f, 0xb2),
];

/// On a dark page, black becomes light and white becomes dark.
const DARK: &str = "<style>@media (prefers-color-scheme: dark) {\
    text { fill: #e6edf3 } rect[fill=\"#FFFFFF\"] { fill: #0d1117 }\
    line, polyline[stroke=\"#000000\"] { stroke: #6e7681 } }</style>";

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Draws the costs and latencies of a workload, with a bar for each server.
pub(super) fn report(report: &Report, path: &Path) -> Result<(), BenchError> {
    let servers = report.servers();
    let title = format!("{}: {}", report.plan.workload, report.plan.size());
    draw(path, &title, &servers, |left, right| {
        bars(left, "CPU of a delivery, µs", report, &["server_us_per_delivery", "redis_us_per_delivery"])?;
        bars(right, "Latency, ms", report, &["p50_ms", "p99_ms", "p999_ms"])
    })
}

/// Draws the cost of a delivery by size, with a line for each server.
pub(super) fn sweep(sweep: &Sweep, path: &Path) -> Result<(), BenchError> {
    draw(path, "CPU of a delivery by size, µs", &sweep.servers(), |left, right| {
        lines(left, "Rooms", &sweep.costs(Workload::Rooms))?;
        lines(right, "Members of one room", &sweep.costs(Workload::Fanout))
    })
}

/// Draws a title, a legend and two panels, and writes the file.
fn draw(
    path: &Path,
    title: &str,
    servers: &[&str],
    panels: impl FnOnce(&Area<'_>, &Area<'_>) -> Drawn,
) -> Result<(), BenchError> {
    let mut svg = String::new();
    let drawn = || -> Drawn {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let names: i32 = servers.iter().map(|server| name_width(server)).sum();
        let rows = 1 + (16 + names) / i32::try_from(SIZE.0)?;
        let (head, below) = root.split_vertically(44 + 20 * rows);
        head.draw(&Text::new(title.to_owned(), (16, 10), (FONT.0, 18).into_font()))?;
        let (mut x, mut y) = (16, 40);
        for (index, server) in servers.iter().enumerate() {
            if x + name_width(server) > i32::try_from(SIZE.0)? {
                (x, y) = (16, y + 20);
            }
            head.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], colour(index).filled()))?;
            head.draw(&Text::new((*server).to_owned(), (x + 18, y - 1), SMALL.into_font()))?;
            x += name_width(server);
        }
        let (left, right) = below.split_horizontally(SIZE.0 / 2);
        panels(&left, &right)?;
        root.present()?;
        Ok(())
    };
    let failed = |error: Box<dyn Error>| BenchError::Plan(format!("no chart can be drawn: {error}"));
    drawn().map_err(failed)?;
    let svg = svg.replacen(">\n", &format!(">\n{DARK}\n"), 1);
    std::fs::write(path, svg).map_err(|error| BenchError::Io(path.display().to_string(), error))
}

/// Estimates the width of a server's name in the legend, in pixels.
fn name_width(server: &str) -> i32 {
    40 + 7 * i32::try_from(server.len()).unwrap_or_default()
}

/// Draws a group of bars for each of these figures, with a bar for each server. Where there is space, each
/// bar has its value and its ratio to the last one.
fn bars(area: &Area<'_>, title: &str, report: &Report, names: &[&str]) -> Drawn {
    let groups: Vec<(&str, Vec<Option<f64>>)> =
        names.iter().map(|name| (*name, report.values(name))).collect();
    let most =
        groups.iter().flat_map(|(_, values)| values).flatten().fold(0.0, |most: f64, value| most.max(*value));
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..names.len() as f64, 0.0..(most * 1.2).max(0.001))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .y_labels(6)
        .y_label_formatter(&|value| shown(*value))
        .label_style(SMALL)
        .draw()?;
    let plot = chart.plotting_area();
    for (index, (name, values)) in groups.iter().enumerate() {
        let width = 0.8 / values.len() as f64;
        let floor = values.last().copied().flatten().filter(|floor| *floor > 0.0);
        for (server, value) in values.iter().enumerate() {
            let Some(value) = *value else { continue };
            let x = index as f64 + 0.1 + width * server as f64;
            plot.draw(&Rectangle::new([(x, 0.0), (x + width * 0.92, value)], colour(server).filled()))?;
            if values.len() > LABELLED {
                continue;
            }
            let ratio =
                floor.filter(|_| server + 1 < values.len()).map(|floor| format!("×{:.2}", value / floor));
            for (line, text) in ratio.into_iter().chain([shown(value)]).rev().enumerate() {
                let at = plot.map_coordinate(&(x + width * 0.46, value));
                label(area, &text, (at.0, at.1 - 6 - 14 * i32::try_from(line)?))?;
            }
        }
        let at = plot.map_coordinate(&(index as f64 + 0.5, 0.0));
        label(
            area,
            words(name).trim_end_matches(" ms").trim_end_matches(" µs per delivery"),
            (at.0, at.1 + 18),
        )?;
    }
    Ok(())
}

/// Draws text centred above a point of the whole chart.
fn label(area: &Area<'_>, text: &str, at: (i32, i32)) -> Drawn {
    let (x, y) = area.get_pixel_range();
    let style = SMALL.into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
    area.draw(&Text::new(text.to_owned(), (at.0 - x.start, at.1 - y.start), style))?;
    Ok(())
}

/// Draws a line for each server, over sizes that grow tenfold.
fn lines(area: &Area<'_>, title: &str, costs: &[(usize, Vec<Option<f64>>)]) -> Drawn {
    let (Some((first, values)), Some((last, _))) = (costs.first(), costs.last()) else { return Ok(()) };
    let most =
        costs.iter().flat_map(|(_, values)| values).flatten().fold(0.0, |most: f64, value| most.max(*value));
    let mut chart: ChartContext<'_, _, Cartesian2d<_, RangedCoordf64>> = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(
            (*first as f64 * 0.7..*last as f64 * 1.4).log_scale(),
            0.0..(most * 1.2).max(0.001),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .disable_x_mesh()
        .x_labels(0)
        .x_label_formatter(&|_| String::new())
        .y_label_formatter(&|value| shown(*value))
        .y_labels(6)
        .label_style(SMALL)
        .draw()?;
    for (size, _) in costs {
        let at = chart.plotting_area().map_coordinate(&(*size as f64, 0.0));
        label(area, &size.to_string(), (at.0, at.1 + 18))?;
    }
    for server in 0..values.len() {
        let points: Vec<(f64, f64)> =
            costs.iter().filter_map(|(size, values)| Some((*size as f64, values[server]?))).collect();
        chart.draw_series(LineSeries::new(points.clone(), colour(server).stroke_width(2)))?;
        for point in points {
            chart.plotting_area().draw(&Circle::new(point, 4, colour(server).filled()))?;
            let at = chart.plotting_area().map_coordinate(&point);
            label(area, &shown(point.1), (at.0, at.1 - 8))?;
        }
    }
    Ok(())
}

fn colour(server: usize) -> RGBColor {
    COLOURS[server % COLOURS.len()]
}
