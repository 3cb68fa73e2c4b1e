//! Answers per second over time as a picture: a row for each scenario, a column for each proxy.

use std::time::Duration;

use crate::{
    load::Sample,
    scenarios::{PER_SECOND, Report, Scenario},
};

/// The picture.
pub fn svg(proxies: &[&str], rows: &[(Scenario, Vec<Report>)]) -> String {
    let width = LEFT + proxies.len() as f64 * (PANEL_WIDTH + GAP);
    let height = TOP + rows.len() as f64 * (PANEL_HEIGHT + GAP * 2.0) + 24.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    legend(&mut text);
    for (row, (scenario, reports)) in rows.iter().enumerate() {
        let y = TOP + row as f64 * (PANEL_HEIGHT + GAP * 2.0);
        for (column, report) in reports.iter().enumerate() {
            let x = LEFT + column as f64 * (PANEL_WIDTH + GAP);
            let name = proxies.get(column).copied().unwrap_or_default();
            let title = format!(
                "{name}: {} ({} of {} failed)",
                scenario.title().replace('`', ""),
                report.failed(),
                report.samples.len()
            );
            text.push_str(&format!(
                "<text x=\"{x:.0}\" y=\"{:.0}\" fill=\"#222222\">{}</text>\n",
                y - 5.0,
                title.replace('>', "&gt;")
            ));
            panel(&mut text, report, x, y);
        }
    }
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String) {
    let mut x = LEFT;
    for (word, colour) in CLASSES {
        text.push_str(&format!(
            "<rect x=\"{x:.0}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"20\" fill=\"#222222\">{word}</text>\n",
            x + 17.0
        ));
        x += 150.0;
    }
    text.push_str(&format!(
        "<text x=\"{LEFT:.0}\" y=\"40\" fill=\"#222222\">answers per second over seconds; grey: the change</text>\n"
    ));
}

fn panel(text: &mut String, report: &Report, x: f64, y: f64) {
    let seconds = report
        .samples
        .iter()
        .map(|sample| (sample.at + sample.took).as_secs_f64())
        .fold(1.0, f64::max);
    let across = |at: f64| x + at / seconds * PANEL_WIDTH;
    let (begun, ended) = (report.change.0.as_secs_f64(), report.change.1.as_secs_f64());
    text.push_str(&format!(
        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{PANEL_HEIGHT}\" fill=\"#eeeeee\"/>\n",
        across(begun),
        (across(ended) - across(begun)).max(1.0)
    ));
    let base = y + PANEL_HEIGHT;
    let bins = (seconds / BIN).ceil() as usize;
    let mut counts = vec![[0_u32; CLASSES.len()]; bins + 1];
    for sample in &report.samples {
        let bin = ((sample.at + sample.took).as_secs_f64() / BIN) as usize;
        counts[bin.min(bins)][class(sample)] += 1;
    }
    for (bin, counts) in counts.iter().enumerate() {
        let mut top = base;
        for (class, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let rate = f64::from(*count) / BIN;
            let tall = (rate / FULL * PANEL_HEIGHT).min(top - y);
            top -= tall;
            text.push_str(&format!(
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{tall:.1}\" fill=\"{}\"/>\n",
                across(bin as f64 * BIN),
                BIN / seconds * PANEL_WIDTH,
                CLASSES[class].1
            ));
        }
    }
    for second in (0..=seconds as u32).step_by(5) {
        text.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#666666\" font-size=\"10\">{second}</text>\n",
            across(f64::from(second)),
            base + 11.0
        ));
    }
    let steady = base - f64::from(PER_SECOND) / FULL * PANEL_HEIGHT;
    text.push_str(&format!(
        "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{steady:.1}\" y2=\"{steady:.1}\" stroke=\"#999999\" stroke-dasharray=\"3 3\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#666666\" font-size=\"10\" text-anchor=\"end\">{PER_SECOND}</text>\n",
        x + PANEL_WIDTH,
        x - 3.0,
        steady + 3.0
    ));
}

/// Which of the classes a sample is of.
fn class(sample: &Sample) -> usize {
    match sample.outcome {
        Ok(200) if sample.took < SOON => 0,
        Ok(200) => 1,
        Ok(404) => 2,
        Ok(_) => 3,
        Err(_) => 4,
    }
}

/// Answers and their colours; these can be told apart by those who do not see red or green, too.
const CLASSES: [(&str, &str); 5] = [
    ("200", "#0072b2"),
    ("200, after waiting", "#56b4e9"),
    ("404", "#e69f00"),
    ("502, 503, 504", "#d55e00"),
    ("no answer", "#000000"),
];
const SOON: Duration = Duration::from_millis(100);
/// Seconds of one bar.
const BIN: f64 = 0.25;
/// Answers a second that fill a panel.
const FULL: f64 = 500.0;
const TOP: f64 = 72.0;
const LEFT: f64 = 36.0;
const GAP: f64 = 24.0;
const PANEL_WIDTH: f64 = 470.0;
const PANEL_HEIGHT: f64 = 80.0;
