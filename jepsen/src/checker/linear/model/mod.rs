//! Objects that a broker keeps, as they would be with one copy and one client at a time.

mod config;
mod log;
mod offset;
mod register;
mod topic;

pub use config::{Config, ConfigOperation, Setting};
pub use log::{Appended, LogOperation, Placed};
pub use offset::{CommittedOffset, OffsetOperation};
pub use register::{Register, RegisterOperation};
pub use topic::{TopicOperation, TopicRegister, TopicState};
