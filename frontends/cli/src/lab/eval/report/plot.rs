//! Grouped bar charts, as SVG.

use super::super::plan::{Load, PAIRS, Setup, Way, Work};
use super::super::result::Evaluation;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A picture.
pub struct Plot {
    /// File name without its ending.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The picture.
    pub svg: String,
}

/// Bars of one colour: one value for each group of bars.
struct Series {
    label: String,
    colour: RGBColor,
    values: Vec<Option<f64>>,
}

const SIZE: (u32, u32) = (900, 420);
/// Okabe and Ito's colours, told apart by all eyes.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];

/// All pictures for which there are figures.
pub fn all(evaluation: &Evaluation) -> Result<Vec<Plot>> {
    let plots = [
        (
            "figure5-shares",
            "Figure 5: total of all pairs, VXLAN + AES-CTR, VMs of one size",
            figure5(evaluation, |way| Setup::shares(Work::AesCtr, way)),
        ),
        (
            "figure5",
            "Figure 5: total of all pairs, VXLAN + AES-CTR, all VMs on one core",
            figure5(evaluation, |way| Setup::switch(Work::AesCtr, way)),
        ),
        (
            "figure5-gcm",
            "VXLAN + AES-GCM, all VMs on one core",
            figure5(evaluation, |way| Setup::switch(Work::AesGcm, way)),
        ),
        (
            "vxlan",
            "VXLAN through Open vSwitch, one pair",
            bars(
                evaluation,
                &[
                    Setup::switch(Work::Vxlan, Way::Proposed),
                    Setup::switch(Work::Vxlan, Way::Existing),
                    Setup::switch(Work::Vxlan, Way::ExistingFragments),
                ],
            ),
        ),
        (
            "cable",
            "On the cable, one pair",
            bars(
                evaluation,
                &[
                    Setup::cable(Work::Vxlan, Way::Proposed),
                    Setup::cable(Work::AesGcm, Way::Proposed),
                    Setup::cable(Work::Vxlan, Way::Linux),
                    Setup::cable(Work::AesGcm, Way::WireguardGo),
                    Setup::cable(Work::AesGcm, Way::Boringtun),
                ],
            ),
        ),
    ];
    let drawn = plots.into_iter().filter(|(_, _, series)| !series.is_empty());
    drawn
        .map(|(name, title, series)| {
            let svg = draw(title, &series).map_err(|error| anyhow!("drawing {name}: {error}"))?;
            Ok(Plot { name, title: title.to_owned(), svg })
        })
        .collect()
}

/// The paper's: for each size, proposed and existing with 1, 2 and 4 pairs.
fn figure5(evaluation: &Evaluation, setup: impl Fn(Way) -> Setup) -> Vec<Series> {
    let ways = [(Way::Proposed, "proposed", 0), (Way::Existing, "existing", 3)];
    let all = ways.into_iter().flat_map(|(way, name, colour)| {
        PAIRS.into_iter().zip(0..).map(move |(pairs, index)| (way, name, pairs, colour + index))
    });
    let series = all.map(|(way, name, pairs, colour)| {
        let setup = setup(way);
        Series {
            label: format!("{name}, {pairs} pair{}", if pairs == 1 { "" } else { "s" }),
            colour: COLOURS[colour],
            values: Load::all().map(|load| evaluation.total(setup, pairs, load)).collect(),
        }
    });
    with_values(series)
}

fn bars(evaluation: &Evaluation, setups: &[Setup]) -> Vec<Series> {
    with_values(setups.iter().zip(COLOURS).map(|(setup, colour)| Series {
        label: setup.title(),
        colour,
        values: Load::all().map(|load| evaluation.total(*setup, 1, load)).collect(),
    }))
}

fn with_values(series: impl Iterator<Item = Series>) -> Vec<Series> {
    series.filter(|series| series.values.iter().any(Option::is_some)).collect()
}

fn draw(title: &str, series: &[Series]) -> Result<String, Box<dyn std::error::Error>> {
    let loads: Vec<String> = Load::all().map(|load| load.to_string()).collect();
    let most =
        series.iter().flat_map(|series| &series.values).flatten().fold(1.0_f64, |most, value| most.max(*value));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let groups = loads.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..groups, 0.0..most * 1.25)?;
        let name = |at: &f64| loads.get(at.floor() as usize).cloned().unwrap_or_default();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(WHITE)
            .y_desc("Mbit/s at the receivers")
            .draw()?;
        let width = 0.84 / series.len() as f64;
        for (place, series) in series.iter().enumerate() {
            let colour = series.colour;
            let bars = series.values.iter().enumerate().filter_map(|(group, value)| {
                let left = group as f64 + 0.08 + place as f64 * width;
                let height = (*value).filter(|height| *height > 0.0)?;
                Some(Rectangle::new([(left, 0.0), (left + width * 0.92, height)], colour.filled()))
            });
            chart
                .draw_series(bars)?
                .label(&series.label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        // The names of the groups stand below their middle, where no tick would be.
        let (_, height) = area.dim_in_pixel();
        for group in 0..loads.len() {
            let (x, _) = chart.backend_coord(&(group as f64 + 0.5, 0.0));
            let text = name(&(group as f64));
            let left = x - 4 * text.len() as i32;
            area.draw(&Text::new(text, (left, height as i32 - 32), ("sans-serif", 15)))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
