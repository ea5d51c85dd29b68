//! What clients may see of a log: properties P1 to P18.
//!
//! | Property | Where |
//! |---|---|
//! | P1 one value at an offset | [`inconsistent_offset`] |
//! | P2 nothing required is missing below what is read, P3 nor at the end | [`lost_write`] |
//! | P4 no value twice | [`duplicate`] |
//! | P5 no value from nowhere | [`phantom`] |
//! | P6 no gap inside an answer, P7 rising offsets inside an answer | [`within_poll`] |
//! | P8 no gap between answers, P9 no way back between answers | [`between_polls`] |
//! | P10 a producer's order | [`send_order`] |
//! | P11a, P11b a batch stays in one piece, in order | [`batch`] |
//! | P12 real-time order of appends | [`append_order`] |
//! | P13 final reads are fresh | [`staleness`]; before that a metric: [`super::metrics`] |
//! | P14 bounds never go down | [`bounds`]; look-ups by time: [`time_lookup`] |
//! | P15 content is as sent | [`content`] |
//! | P16 acknowledgements tell the truth | [`acknowledgement`] |
//! | P17 nothing is read above the high watermark | [`read_bound`] |
//! | P18 and all others that the run judged itself | [`broken`] |
//!
//! A record is *known* at an offset when an acknowledgement or a read said so, or when a read
//! showed another record of its batch. Three things excuse its absence: a log start that moved by
//! request, or by retention where that is set; compaction; and, from reads that fail, damage
//! that was done on purpose. Nothing excuses another record in its place.

pub mod acknowledgement;
pub mod append_order;
pub mod batch;
pub mod between_polls;
pub mod bounds;
pub mod broken;
pub mod content;
pub mod duplicate;
pub mod inconsistent_offset;
pub mod lost_write;
pub mod phantom;
pub mod read_bound;
pub mod send_order;
pub mod staleness;
pub mod time_lookup;
pub mod within_poll;
