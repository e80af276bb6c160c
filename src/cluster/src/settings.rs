//! The settings of a session that its tasks need.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{Result, config_err};

/// Separates settings: no value of one of them has it.
const SEPARATOR: char = '|';

/// DataFusion's settings of execution and of a search that differ from their defaults, as text. It
/// travels in the header of each request of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskSettings(String);

impl TaskSettings {
    /// Returns the settings of a session.
    pub fn of(options: &ConfigOptions) -> Self {
        let defaults = ConfigOptions::new().entries();
        let is_default = |entry: &ConfigEntry| {
            defaults.iter().any(|default| default.key == entry.key && default.value == entry.value)
        };
        let is_sent = |entry: &ConfigEntry| {
            (entry.key.starts_with("datafusion.execution.") || matches!(entry.key.as_str(), "vexact.tier"))
                && !is_default(entry)
        };
        let entries = options.entries();
        let sent = entries.iter().filter(|entry| is_sent(entry)).filter_map(|entry| {
            let value = entry.value.as_deref()?;
            let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            (is_plain && !value.contains(SEPARATOR)).then(|| format!("{}={value}", entry.key))
        });
        Self(sent.collect::<Vec<_>>().join(&SEPARATOR.to_string()))
    }

    /// Applies the settings.
    ///
    /// # Errors
    /// A setting that these options do not have.
    pub fn apply(&self, options: &mut ConfigOptions) -> Result<()> {
        for setting in self.0.split(SEPARATOR).filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some((key, value)) => options.set(key, value)?,
                None => return config_err!("a setting of a task: expected key=value, got {setting:?}"),
            }
        }
        Ok(())
    }
}

impl ConfigExtension for TaskSettings {
    const PREFIX: &'static str = "vexacttask";
}

impl ExtensionOptions for TaskSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "settings" => self.0 = value.into(),
            _ => return config_err!("vexacttask.{key}: expected vexacttask.settings"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let value = Some(self.0.clone()).filter(|value| !value.is_empty());
        vec![ConfigEntry { key: "settings".into(), value, description: "settings of a task" }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_from_their_defaults_arrive() {
        let mut options = ConfigOptions::new();
        options.set("datafusion.execution.batch_size", "17").unwrap();
        options.set("datafusion.execution.time_zone", "+02:00").unwrap();
        options.set("datafusion.catalog.default_schema", "other").unwrap();
        let mut received = ConfigOptions::new();
        TaskSettings::of(&options).apply(&mut received).unwrap();
        assert_eq!(received.execution.batch_size, options.execution.batch_size);
        assert_eq!(received.execution.time_zone.as_deref(), Some("+02:00"));
        assert_eq!(received.catalog.default_schema, ConfigOptions::new().catalog.default_schema);
        assert_eq!(TaskSettings::of(&ConfigOptions::new()), TaskSettings::default());
        assert!(TaskSettings("nothing".into()).apply(&mut received).is_err());
    }
}
