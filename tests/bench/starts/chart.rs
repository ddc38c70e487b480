//! The table as a picture: how far each number is from its goal, on a scale on which the goal is always at the same place.

use super::Row;

const WIDTH: f64 = 860.0;
const LINE: f64 = 34.0;
const LEFT: f64 = 330.0;
/// Where the goal is.
const GOAL: f64 = 300.0;
/// Bars longer than this are cut.
const LONGEST: f64 = 1.6;

/// An SVG of the rows.
pub(crate) fn svg(rows: &[Row]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
    let height = LINE * (rows.len() as f64 + 2.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">Starts beside their references (shorter is better; the line is what must hold)</text>\n"
    );
    let mut y = LINE * 1.5;
    for row in rows {
        let share = (row.score() / row.must).min(LONGEST);
        let aim = LEFT + row.aim / row.must * GOAL;
        let color = if row.score() <= row.must {
            "#2f7d4f"
        } else {
            "#b3402a"
        };
        let (bar, text) = (y - 13.0, y + 2.0);
        out.push_str(&format!(
            "<text x=\"10\" y=\"{text}\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{bar}\" width=\"{width:.1}\" height=\"20\" fill=\"{color}\"/>\n\
             <line x1=\"{aim:.1}\" x2=\"{aim:.1}\" y1=\"{bar}\" y2=\"{end}\" stroke=\"#999\" stroke-dasharray=\"3 2\"/>\n",
            row.what,
            width = share * GOAL,
            end = y + 7.0,
        ));
        let amount = if row.reference_value > 0.0 {
            format!("{:.3}x of {}", row.score(), row.reference)
        } else {
            format!("{:.2} {}", row.value, row.unit)
        };
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{text}\" fill=\"#333\" font-size=\"11\">{amount}</text>\n",
            LEFT + share * GOAL + 6.0
        ));
        y += LINE;
    }
    let goal = LEFT + GOAL;
    out.push_str(&format!(
        "<line x1=\"{goal}\" x2=\"{goal}\" y1=\"{LINE}\" y2=\"{y}\" stroke=\"black\"/>\n</svg>\n"
    ));
    out
}
