//! A small line plot as SVG.

use std::fmt::Write;

use maud::{Markup, html};

use super::text::{duration, short};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 128.0;

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Since the run began.
    pub seconds: f64,
    pub value: f64,
}

/// The data of a plot.
pub(super) struct Plot<'a> {
    /// Id of the element, unique on the page.
    pub id: &'a str,
    pub title: &'a str,
    /// Unit after a value, such as `ms`.
    pub unit: &'a str,
    /// In the order of time.
    pub points: &'a [Point],
}

/// The plot with its title and newest value. Points that are no finite numbers are left out.
pub(super) fn plot(plot: &Plot<'_>) -> Markup {
    let Plot { id, title, unit, .. } = plot;
    let points: Vec<Point> =
        plot.points.iter().copied().filter(|p| p.seconds.is_finite() && p.value.is_finite()).collect();
    let newest = points.last().map_or_else(|| "–".to_owned(), |point| with_unit(point.value, unit));
    html! {
        figure.plot id=(id) {
            figcaption { span { (title) } output data-newest=(newest.trim_end()) { (newest.trim_end()) } }
            @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                (lines(plot, &points, first.seconds, last.seconds))
            } @else {
                p.none { "Nothing to plot yet" }
            }
        }
    }
}

fn lines(plot: &Plot<'_>, points: &[Point], from: f64, to: f64) -> Markup {
    let top = round_up(points.iter().map(|point| point.value).fold(0.0, f64::max));
    let span = if to > from { to - from } else { 1.0 };
    let at = |point: &Point| {
        let x = LEFT + (point.seconds - from) / span * (RIGHT - LEFT);
        (x, BOTTOM - (point.value / top).clamp(0.0, 1.0) * (BOTTOM - TOP))
    };
    let mut line = String::new();
    // Data of each point for the script, which shows them when the reader points at it: position,
    // value and time.
    let mut known = String::new();
    for (number, point) in points.iter().enumerate() {
        let (x, y) = at(point);
        // Writing to a String never fails.
        let _ = write!(line, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
        let separator = if number == 0 { "" } else { ";" };
        let value = with_unit(point.value, plot.unit);
        let _ = write!(known, "{separator}{x:.1}|{y:.1}|{value}|{}", clock(point.seconds));
    }
    let (start_x, (end_x, end_y)) = (at(&points[0]).0, at(&points[points.len() - 1]));
    let highest = points.iter().map(|point| point.value).fold(f64::MIN, f64::max);
    let summary = format!(
        "{}: {} points from {} to {}, at most {}",
        plot.title,
        points.len(),
        clock(from),
        clock(to),
        with_unit(highest, plot.unit)
    );
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(summary.trim_end()) data-points=(known) {
            @for share in [0.0, 0.5, 1.0] {
                @let y = BOTTOM - share * (BOTTOM - TOP);
                line.grid x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {}
                text.axis x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (short(top * share)) }
            }
            text.axis x=(LEFT) y=(BOTTOM + 16.0) { (clock(from)) }
            @if to > from { text.axis x=(RIGHT) y=(BOTTOM + 16.0) text-anchor="end" { (clock(to)) } }
            path.area d=(format!("{line}L{end_x:.1} {BOTTOM}L{start_x:.1} {BOTTOM}Z")) {}
            path.line d=(line) {}
            circle.dot cx=(format!("{end_x:.1}")) cy=(format!("{end_y:.1}")) r="3" {}
            line.cursor x1="0" x2="0" y1=(TOP) y2=(BOTTOM) {}
        }
    }
}

/// Returns a value with its unit; many milliseconds are seconds or minutes.
fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "ms" if value >= 1000.0 => duration(value.round() as u64),
        _ => format!("{} {unit}", short(value)),
    }
}

/// The next number of few digits for an axis; 1 for nothing.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    // A number so small that it has no unit is its own.
    steps.iter().map(|step| step * unit).find(|top| *top >= value).unwrap_or(value)
}

/// Time since the beginning.
fn clock(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{} s", short(s)),
        s if s < 7200.0 => format!("{} min", short(s / 60.0)),
        s => format!("{} h", short(s / 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(points: &[(f64, f64)]) -> String {
        let points: Vec<Point> = points.iter().map(|&(seconds, value)| Point { seconds, value }).collect();
        plot(&Plot { id: "p", title: "Rows <per> second", unit: "rows/s", points: &points }).into_string()
    }

    #[test]
    fn a_line_runs_from_the_first_to_the_last_point() {
        let page = page(&[(10.0, 0.0), (15.0, 50.0), (20.0, 100.0)]);
        assert!(page.contains("d=\"M46.0 128.0L199.0 69.0L352.0 10.0\""), "{page}");
        assert!(page.contains("<output data-newest=\"100 rows/s\">100 rows/s</output>"), "{page}");
        assert!(
            page.contains(">10 s</text>") && page.contains(">20 s</text>") && page.contains(">50</text>"),
            "{page}"
        );
        assert!(page.contains("Rows &lt;per&gt; second: 3 points from 10 s to 20 s, at most 100 rows/s"), "{page}");
    }

    #[test]
    fn points_stay_within_the_plot_whatever_they_are() {
        for points in [
            vec![(0.0, 0.0)],
            vec![(5.0, 7.0), (5.0, 7.0)],
            vec![(0.0, -5.0), (1.0, f64::MAX)],
            vec![(0.0, 1e-300), (1e300, 5e-324)],
            vec![(0.0, 1.0), (f64::NAN, 2.0), (2.0, f64::INFINITY), (3.0, 3.0)],
        ] {
            let page = page(&points);
            let path = page.split("class=\"line\" d=\"M").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            for number in path.split(['L', ' ']) {
                let number: f64 = number.parse().unwrap();
                assert!((TOP..=RIGHT).contains(&number), "{points:?}: {path}");
            }
        }
    }

    #[test]
    fn many_milliseconds_are_seconds() {
        assert_eq!([with_unit(14.0, "ms"), with_unit(12_340.0, "ms")], ["14 ms", "12.3 s"]);
        assert_eq!(with_unit(12_340.0, "rows/s"), "12.3 k rows/s");
    }

    #[test]
    fn nothing_to_plot_is_said() {
        for points in [&[][..], &[(0.0, f64::NAN)]] {
            let page = page(points);
            assert!(page.contains("Nothing to plot yet") && !page.contains("<svg"), "{page}");
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in
            [(0.0, 1.0), (1.0, 1.0), (1.1, 1.2), (3.1, 4.0), (8.1, 10.0), (10.0, 10.0), (1234.0, 1600.0), (0.25, 0.3)]
        {
            assert!((round_up(value) - top).abs() < 1e-9 * top, "{value}: {}", round_up(value));
        }
    }
}
