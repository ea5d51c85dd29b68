//! What reports say and how much of it.
