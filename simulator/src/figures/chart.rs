//! Curves as SVG.
//!
//! **Knows:** lines with names, axes with words.
//! **Promises:** equal charts are equal bytes.
//! **Gives up:** everything but lines; PNG.

use plotters::prelude::*;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Ascending in x.
    pub points: Vec<(f64, f64)>,
    /// Published points are drawn thinner, with a circle for each.
    pub published: bool,
}

/// Some curves between two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The file's name, without its ending.
    pub file: String,
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// y in powers of ten.
    pub logarithmic: bool,
    /// The curves.
    pub lines: Vec<Line>,
}

/// Told apart by people who see no red or green, too (Okabe and Ito's).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(0, 0, 0),
];

impl Chart {
    /// The file's text.
    pub fn svg(&self) -> String {
        let mut text = String::new();
        self.draw(&mut text).expect("writing to a string does not fail");
        text
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let all = || self.lines.iter().flat_map(|line| line.points.iter());
        let x_most = all().map(|point| point.0).fold(1e-9, f64::max) * 1.02;
        let y_most = all().map(|point| point.1).fold(1e-9, f64::max) * 1.1;
        let root = SVGBackend::with_string(text, (900, 520)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&root);
        builder.caption(&self.title, ("sans-serif", 18)).margin(14);
        builder.x_label_area_size(44).y_label_area_size(64);
        macro_rules! lines {
            ($chart:expr) => {{
                let mut chart = $chart;
                let mut mesh = chart.configure_mesh();
                mesh.x_desc(&self.x).y_desc(&self.y).light_line_style(WHITE);
                if self.logarithmic {
                    mesh.y_label_formatter(&power_of_ten);
                }
                mesh.draw()?;
                for (line, colour) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
                    let style = colour.stroke_width(if line.published { 1 } else { 2 });
                    let points = line.points.iter().copied();
                    chart
                        .draw_series(LineSeries::new(points.clone(), style))?
                        .label(&line.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
                    if line.published {
                        chart.draw_series(points.map(|point| Circle::new(point, 4, style)))?;
                    }
                }
                let mut legend = chart.configure_series_labels();
                legend.position(SeriesLabelPosition::UpperLeft);
                legend.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
            }};
        }
        if self.logarithmic {
            let least = all().map(|point| point.1).filter(|&y| y > 0.0).fold(y_most, f64::min) * 0.8;
            lines!(builder.build_cartesian_2d(0.0..x_most, (least..y_most).log_scale())?);
        } else {
            lines!(builder.build_cartesian_2d(0.0..x_most, 0.0..y_most)?);
        }
        root.present()?;
        Ok(())
    }
}

/// Small ones are never exact: 9.999999999999999e-6 is 1e-5.
fn power_of_ten(y: &f64) -> String {
    if *y < 1e-3 { format!("{y:.0e}") } else { format!("{y:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_written_as_such() {
        assert_eq!(
            [1e-6 * 9.999999999999999, 0.01, 100.0].map(|y| power_of_ten(&y)),
            ["1e-5", "0.01", "100.0"]
        );
    }

    #[test]
    fn every_line_and_every_word_is_drawn_and_equal_charts_are_equal_bytes() {
        for logarithmic in [false, true] {
            let line = |name: &str, published| Line {
                name: name.into(),
                points: vec![(1.0, 10.0), (2.0, 100.0)],
                published,
            };
            let chart = Chart {
                file: "p99".into(),
                title: "Normal".into(),
                x: "calls per second".into(),
                y: "P99, s".into(),
                logarithmic,
                lines: vec![line("paper", true), line("ours", false)],
            };
            let svg = chart.svg();
            for word in
                ["<svg", "Normal", "calls per second", "P99, s", "paper", "ours", "<polyline", "<circle"]
            {
                assert!(svg.contains(word), "{word} is missing");
            }
            assert_eq!(svg, chart.svg());
        }
    }
}
