//! Histories made by hand and by a model, and what is to be found in them.

mod batches;
mod cross;
mod log;
mod model;
mod random;
mod tell;
mod topics;
