//! The pictures once more as PNG, for pages that show no SVG.

use anyhow::{Context, Result};
use resvg::{tiny_skia::Pixmap, usvg};

/// Pixels for each unit of the drawing: sharp on dense screens and on paper.
const SCALE: f32 = 2.0;
/// The font of choice, where it is installed.
const FONT: &str = "DejaVu Sans";

/// Draws SVGs with the fonts of this machine.
pub struct Painter {
    options: usvg::Options<'static>,
}

impl Painter {
    /// Looks for fonts. Without any, pictures have no text.
    pub fn new() -> Self {
        let mut options = usvg::Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_system_fonts();
        let names: Vec<String> =
            fonts.faces().filter_map(|face| face.families.first().map(|(name, _)| name.clone())).collect();
        match names.iter().find(|name| *name == FONT).or(names.first()) {
            Some(name) => fonts.set_sans_serif_family(name.clone()),
            None => tracing::warn!("no font: PNG files have no text (apt-get install fonts-dejavu-core)"),
        }
        Self { options }
    }

    /// The picture `svg` as a PNG file.
    pub fn png(&self, svg: &str) -> Result<Vec<u8>> {
        let tree = usvg::Tree::from_str(svg, &self.options).context("reading an SVG of our own")?;
        let size = tree.size().to_int_size().scale_by(SCALE).context("a picture without a size")?;
        let mut pixels = Pixmap::new(size.width(), size.height()).context("a picture too large")?;
        let transform = usvg::Transform::from_scale(SCALE, SCALE);
        resvg::render(&tree, transform, &mut pixels.as_mut());
        pixels.encode_png().context("writing PNG")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_seen() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="4"><rect width="5" height="4" fill="#0072b2"/></svg>"##;
        let png = Painter::new().png(svg).unwrap();
        let pixels = Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (18, 8));
        let colour = |x| pixels.pixel(x, 4).map(|pixel| (pixel.red(), pixel.green(), pixel.blue(), pixel.alpha()));
        assert_eq!((colour(2), colour(15)), (Some((0, 0x72, 0xb2, 255)), Some((0, 0, 0, 0))));
        assert!(Painter::new().png("<svg").is_err());
    }
}
