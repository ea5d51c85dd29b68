//! Production: the five seams on tokio and the operating system.
