//! A scene as a time line in SVG: a lane for each client and node, a bar for each operation.
//!
//! Time goes to the right by what happens and not by the clock: each moment at which something is
//! shown has a column, so that a microsecond and an hour are both seen. The clock's time is written
//! above, and a dotted line marks where much of it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::scene::Scene;
use super::words;
use crate::history::{Ending, NodeEvent, Note, Operation};

const LANE_WIDTH: usize = 150;
const COLUMN_WIDTH_MIN: usize = 16;
const COLUMN_WIDTH_MAX: usize = 110;
const WIDTH_WANTED: usize = 1300;
/// For the texts of what comes last.
const MARGIN: usize = 220;
const ROW_HEIGHT: usize = 26;
const BAR_HEIGHT: usize = 18;
const HEADER: usize = 56;
/// Of a letter, roughly.
const LETTER_WIDTH: usize = 6;

/// A time line.
#[must_use]
pub(super) fn timeline(scene: &Scene<'_>) -> String {
    let mut drawing = Drawing::new(scene);
    drawing.times();
    for operation in &scene.operations {
        drawing.operation(operation);
    }
    drawing.nodes();
    drawing.finish()
}

struct Drawing<'a> {
    scene: &'a Scene<'a>,
    /// Moments at which something is shown.
    columns: Vec<u64>,
    column_width: usize,
    /// Name and first row of each lane; nodes come last.
    lanes: Vec<(&'a str, usize)>,
    client_count: usize,
    /// The row of each operation.
    rows: BTreeMap<u64, usize>,
    row_count: usize,
    /// Behind the bars, and the bars.
    back: String,
    front: String,
}

impl<'a> Drawing<'a> {
    fn new(scene: &'a Scene<'a>) -> Self {
        let ends = scene
            .operations
            .iter()
            .flat_map(|one| [one.invoked, one.returned]);
        let noted = scene.notes.iter().map(|(time, ..)| *time);
        let times: BTreeSet<u64> = ends.chain(noted).filter(|time| *time != u64::MAX).collect();
        let columns: Vec<u64> = times.into_iter().collect();
        let room = WIDTH_WANTED / (columns.len() + 1);
        let mut drawing = Self {
            scene,
            columns,
            column_width: room.clamp(COLUMN_WIDTH_MIN, COLUMN_WIDTH_MAX),
            lanes: Vec::new(),
            client_count: 0,
            rows: BTreeMap::new(),
            row_count: 0,
            back: String::new(),
            front: String::new(),
        };
        drawing.arrange();
        drawing
    }

    /// Gives operations rows: those of one client that overlap have different ones.
    fn arrange(&mut self) {
        let mut by_client: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.scene.operations {
            by_client
                .entry(&operation.process)
                .or_default()
                .push(operation);
        }
        for (client, operations) in by_client {
            self.lanes.push((client, self.row_count));
            // Where the last of each row ends, with its text.
            let mut ends: Vec<usize> = Vec::new();
            for operation in operations {
                let left = self.x(operation.invoked);
                let free = ends.iter().position(|end| *end < left);
                let row = free.unwrap_or(ends.len());
                if free.is_none() {
                    ends.push(0);
                }
                ends[row] = self.right(operation).max(left + self.text_width(operation));
                self.rows.insert(operation.op, self.row_count + row);
            }
            self.row_count += ends.len();
        }
        self.client_count = self.lanes.len();
        let nodes: BTreeSet<&str> = self.scene.notes.iter().map(|(_, who, _)| *who).collect();
        for node in nodes {
            self.lanes.push((node, self.row_count));
            self.row_count += 1;
        }
    }

    /// Where the bar of an operation ends.
    fn right(&self, operation: &Operation) -> usize {
        match operation.returned {
            u64::MAX => self.width() - 4,
            returned => self.x(returned).max(self.x(operation.invoked) + 8),
        }
    }

    fn label(&self, operation: &Operation) -> String {
        let asked = words::asked(&operation.call);
        let ended = words::ended(operation, &self.scene.records);
        format!("{} {asked} -> {ended}", operation.op)
    }

    /// The room that an operation's text is to have at least.
    fn text_width(&self, operation: &Operation) -> usize {
        let is_offending = self.scene.offending.contains(&operation.op);
        let most = if is_offending { 70 } else { 24 };
        let letters = self.label(operation).chars().count().min(most);
        let wanted = (letters + 2) * (LETTER_WIDTH + usize::from(is_offending));
        wanted.min(self.width().saturating_sub(self.x(operation.invoked)))
    }

    fn width(&self) -> usize {
        LANE_WIDTH + (self.columns.len() + 1) * self.column_width + MARGIN
    }

    fn x(&self, time: u64) -> usize {
        let column = self.columns.partition_point(|known| *known < time);
        LANE_WIDTH + column * self.column_width + self.column_width / 2
    }

    fn y(row: usize) -> usize {
        HEADER + row * ROW_HEIGHT
    }

    fn bottom(&self) -> usize {
        Self::y(self.row_count)
    }

    /// The clock, and where it leaps.
    fn times(&mut self) {
        let bottom = self.bottom();
        let mut steps: Vec<u64> = self
            .columns
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect();
        steps.sort_unstable();
        let leap = steps
            .get(steps.len() / 2)
            .copied()
            .unwrap_or(0)
            .saturating_mul(20);
        let mut written_to = 0;
        for (at, time) in self.columns.clone().into_iter().enumerate() {
            let x = self.x(time);
            let before = at.checked_sub(1).map(|before| time - self.columns[before]);
            if before.is_some_and(|step| step > leap && step > 1_000_000) {
                let left = x - self.column_width / 2;
                let _ = writeln!(
                    self.back,
                    "<line class='leap' x1='{left}' y1='{HEADER}' x2='{left}' y2='{bottom}'/>"
                );
            }
            if x >= written_to {
                let text = words::seconds(time);
                written_to = x + (text.len() + 2) * LETTER_WIDTH;
                let (above, from) = (HEADER - 12, HEADER - 8);
                let _ = writeln!(
                    self.back,
                    "<text class='time' x='{x}' y='{above}'>{text}</text>\
                     <line class='tick' x1='{x}' y1='{from}' x2='{x}' y2='{bottom}'/>"
                );
            }
        }
        let mut is_odd = false;
        let ends = self.lanes.iter().skip(1).map(|(_, row)| *row);
        let ends: Vec<usize> = ends.chain([self.row_count]).collect();
        for ((name, row), end) in self.lanes.clone().into_iter().zip(ends) {
            let (y, height) = (Self::y(row), (end - row) * ROW_HEIGHT);
            let (width, below) = (self.width(), y + 17);
            let class = if is_odd { "lane odd" } else { "lane" };
            is_odd = !is_odd;
            let name = escaped(&cut(name, 22));
            let lane = format!(
                "<rect class='{class}' x='0' y='{y}' width='{width}' height='{height}'/>\
                 <text class='name' x='6' y='{below}'>{name}</text>\n"
            );
            self.back.insert_str(0, &lane);
        }
    }

    fn operation(&mut self, operation: &Operation) {
        let Some(row) = self.rows.get(&operation.op).copied() else {
            return;
        };
        let left = self.x(operation.invoked);
        let is_open = operation.returned == u64::MAX;
        let (width, y) = (self.right(operation) - left, Self::y(row) + 4);
        let is_offending = self.scene.offending.contains(&operation.op);
        let outcome = match operation.ending {
            Ending::Ok(_) => "ok",
            Ending::Fail(_) => "fail",
            Ending::Unknown(_) => "info",
        };
        let offending = if is_offending { " offending" } else { "" };
        let open = if is_open { " open" } else { "" };
        let title = escaped(&words::sentence(operation, &self.scene.records));
        // A text may go on behind its bar up to where the next one of its row begins.
        let same_row = self.scene.operations.iter().filter(|other| {
            other.invoked > operation.invoked && self.rows.get(&other.op) == Some(&row)
        });
        let next = same_row.map(|other| self.x(other.invoked)).min();
        let room = next
            .unwrap_or_else(|| self.width())
            .saturating_sub(left + 6);
        let letter = LETTER_WIDTH + usize::from(is_offending);
        let text = escaped(&cut(&self.label(operation), room / letter));
        let (at, below) = (left + 4, y + 13);
        let _ = writeln!(
            self.front,
            "<g><title>{title}</title>\
             <rect class='bar {outcome}{offending}{open}' x='{left}' y='{y}' width='{width}' \
             height='{BAR_HEIGHT}' rx='3'/>\
             <text class='label{offending}' x='{at}' y='{below}'>{text}</text></g>"
        );
    }

    /// What happened to nodes, and for how long they were away.
    fn nodes(&mut self) {
        let lanes = self.lanes.split_off(self.client_count);
        for (node, row) in lanes {
            let notes: Vec<(u64, &Note)> = self
                .scene
                .notes
                .iter()
                .filter(|(_, who, _)| *who == node)
                .map(|(time, _, note)| (*time, *note))
                .collect();
            let y = Self::y(row) + 4;
            let mut away: Option<u64> = None;
            for (at, (time, note)) in notes.iter().enumerate() {
                let x = self.x(*time);
                match note {
                    Note::Node { event } if is_away(event) => away = away.or(Some(*time)),
                    Note::Leading { .. }
                    | Note::Node {
                        event: NodeEvent::Ready | NodeEvent::Resume,
                    } => {
                        self.away(away.take(), x, y);
                    }
                    _ => {}
                }
                let next = notes
                    .get(at + 1)
                    .map_or(self.width(), |next| self.x(next.0));
                let room = next.saturating_sub(x + 8) / LETTER_WIDTH;
                let text = words::note(note).unwrap_or_default();
                let (title, text) = (escaped(&text), escaped(&cut(&text, room)));
                let (middle, after, below) = (y + BAR_HEIGHT / 2, x + 6, y + 13);
                let time = words::seconds(*time);
                let _ = writeln!(
                    self.front,
                    "<g><title>{time}: {title}</title>\
                     <circle class='note' cx='{x}' cy='{middle}' r='4'/>\
                     <text class='label' x='{after}' y='{below}'>{text}</text></g>"
                );
            }
            let end = self.width();
            self.away(away, end, y);
        }
    }

    fn away(&mut self, since: Option<u64>, until: usize, y: usize) {
        let Some(since) = since else { return };
        let left = self.x(since);
        let width = until.saturating_sub(left);
        let _ = writeln!(
            self.back,
            "<rect class='away' x='{left}' y='{y}' width='{width}' height='{BAR_HEIGHT}'/>"
        );
    }

    fn finish(self) -> String {
        let (width, height) = (self.width(), self.bottom() + 8);
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
             viewBox='0 0 {width} {height}' role='img'>\n<style>{STYLE}</style>\n\
             <rect x='0' y='0' width='{width}' height='{height}' fill='#fff'/>\n{}{}</svg>\n",
            self.back, self.front
        )
    }
}

fn is_away(event: &NodeEvent) -> bool {
    matches!(
        event,
        NodeEvent::Stop
            | NodeEvent::Kill
            | NodeEvent::PowerLoss
            | NodeEvent::Pause
            | NodeEvent::Failed(_)
    )
}

const STYLE: &str = "\
text{font:11px 'DejaVu Sans',Verdana,sans-serif;fill:#222}\
.lane{fill:#fff}.odd{fill:#f5f6f8}.name{font-weight:bold;fill:#444}\
.time{fill:#667}.tick{stroke:#e3e5ea}.leap{stroke:#98a;stroke-dasharray:2 5}\
.bar{stroke-width:1}.ok{fill:#cfe8d5;stroke:#7bb58a}.fail{fill:#e4e4e8;stroke:#a0a0aa}\
.info{fill:#fdecc0;stroke:#d9a93a}.open{stroke-dasharray:5 3}\
.bar.offending{fill:#f9c6c0;stroke:#c0392b;stroke-width:2.5}.label.offending{font-weight:bold}\
.away{fill:#c9ccd6}.note{fill:#34558b}";

/// At most so many letters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    if most < 4 {
        return String::new();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}

/// As text of XML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&quot;"),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}
