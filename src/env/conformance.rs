//! What every `Env` must show, as tests that both implementations run.
