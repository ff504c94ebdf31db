//! Curves as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;

/// One line of a plot.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) file: &'static str,
    pub(crate) curve: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a picture is called, and its axes.
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// For the heads of tables.
    pub(crate) short: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
}

const SIZE: (u32, u32) = (960, 540);
/// Told apart by the colour-blind, too (Okabe and Ito, 2008), but for its yellow, which is pale on white; and two more.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
    RGBColor(120, 120, 120),
    RGBColor(140, 86, 75),
];

impl Plot {
    /// Writes the picture into a folder.
    pub(crate) fn write(&self, curves: &[Line], folder: &Path) -> Result<()> {
        let text = self.svg(curves).map_err(|fault| format!("{}: {fault}", self.file))?;
        std::fs::write(folder.join(self.file), text)?;
        Ok(())
    }

    /// Links it into Markdown.
    pub(crate) fn markdown(&self) -> String {
        format!("![{}]({})", self.title, self.file)
    }

    fn svg(&self, curves: &[Line]) -> std::result::Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let finite = || curves.iter().flat_map(|curve| &curve.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let bound =
            |of: fn(f64, f64) -> f64, start: f64, axis: fn(&(f64, f64)) -> f64| finite().map(axis).fold(start, of);
        let (x0, x1) = (bound(f64::min, f64::INFINITY, |p| p.0), bound(f64::max, f64::NEG_INFINITY, |p| p.0));
        let (y0, y1) = (bound(f64::min, f64::INFINITY, |p| p.1), bound(f64::max, f64::NEG_INFINITY, |p| p.1));
        if !(x0.is_finite() && y0.is_finite()) {
            return Err("there is nothing to draw".into());
        }
        let x1 = if x1 > x0 { x1 } else { x0 + 1.0 };
        // From 0, unless all lie far from it.
        let floor = if y0 > 0.7 * y1 { y0 - (y1 - y0).max(y1 * 0.01) * 0.1 } else { y0.min(0.0) };
        let top = if y1 > floor { y1 + (y1 - floor) * 0.05 } else { floor + 1.0 };
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            root.fill(&WHITE)?;
            let mut builder = ChartBuilder::on(&root);
            // The legend stands on the right, so that it hides no curve.
            let legend = 14 + 7 * curves.iter().map(|curve| curve.curve.len() as i32).max().unwrap_or(0) + 30;
            builder
                .caption(self.title, ("sans-serif", 22))
                .margin(12)
                .margin_right(legend)
                .x_label_area_size(46)
                .y_label_area_size(70);
            let mut chart = builder.build_cartesian_2d(x0..x1, floor..top)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc(self.x)
                .y_desc(self.y)
                .x_label_formatter(&tick)
                .y_label_formatter(&tick)
                .label_style(("sans-serif", 15))
                .axis_desc_style(("sans-serif", 17))
                .draw()?;
            for (n, curve) in curves.iter().enumerate() {
                chart.draw_series(LineSeries::new(curve.points.iter().copied(), style(n, curves.len())))?;
            }
            let left = SIZE.0 as i32 - legend + 8;
            for (n, curve) in curves.iter().enumerate() {
                let y = 60 + 22 * n as i32;
                root.draw(&PathElement::new(vec![(left, y), (left + 20, y)], style(n, curves.len())))?;
                root.draw(&Text::new(curve.curve.clone(), (left + 26, y - 7), ("sans-serif", 14)))?;
            }
            root.present()?;
        }
        Ok(text)
    }
}

/// A colour each, and the earlier the wider, so that curves that run together are seen.
fn style(n: usize, count: usize) -> ShapeStyle {
    COLOURS[n % COLOURS.len()].stroke_width(2 + (count - n - 1).min(8) as u32)
}

/// Whole numbers without a point.
fn tick(value: &f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
