//! The log: where lines go, how they look, and from which level on. The level can change while the broker runs.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::settings::{LogFormat, LogLevel, LogSettings};

/// The running log.
pub(super) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Sends all log lines of the process to standard error, from now on.
    pub(super) fn start(settings: &LogSettings) -> Log {
        let is_terminal = stderr().is_terminal();
        let (filter, level) = reload::Layer::new(filter(settings.level));
        let lines = fmt::layer().with_writer(stderr);
        let lines = match settings.format {
            LogFormat::Auto if is_terminal => lines.boxed(),
            LogFormat::Text => lines.with_ansi(is_terminal).boxed(),
            LogFormat::Auto | LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        // It fails only when a log was started before, which then goes on.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Log { level }
    }

    /// Changes the level.
    pub(super) fn set_level(&self, level: LogLevel) {
        // It fails only when the log is gone, and then nothing is logged at any level.
        let _ = self.level.reload(filter(level));
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
