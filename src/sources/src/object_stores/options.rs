//! Options of stores by value: credentials, endpoints, limits.

use std::collections::BTreeMap;
use std::fmt;

use vexact_core::error::{Error, Result};

use super::client;
use super::location::{SCHEMES, shown};

/// Options that are no secret, so that errors may have their values.
const PUBLIC: [&str; 9] =
    ["endpoint", "region", "bucket", "account", "timeout", "max_retries", "allow", "style", "use_"];
/// Parts of the names of environment variables whose values are secrets.
const SECRET: [&str; 7] = ["SECRET", "TOKEN", "KEY", "PASSWORD", "SAS", "CREDENTIAL", "SIGNATURE"];
/// Shorter values are not masked in texts, because they would occur in words.
const MASKED_BYTES: usize = 4;

/// Options of stores, by the URL of a store: `s3://bucket`, or `s3://` for all buckets. A store with
/// options takes nothing from the environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(BTreeMap<String, BTreeMap<String, String>>);

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StoreOptions {
    /// Sets the options of a store. The keys are those of the crate `object_store` for the store's
    /// kind, such as `access_key_id`, `secret_access_key`, `session_token`, `region`, `endpoint` and
    /// `allow_http` of S3, and for each kind `timeout` and `connect_timeout` (`"30s"`) of a request,
    /// `max_retries` and `retry_timeout` (`"30s"`).
    ///
    /// # Errors
    /// A URL with a path, or of another scheme; a key that the store does not have. Values are
    /// never in the message.
    pub fn set(&mut self, url: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let refused = |problem: String| Error::InvalidArgument(format!("object_stores: {}: {problem}", shown(url)));
        let Some((scheme, authority)) = url.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme)) else {
            return Err(refused(format!("expected the URL of a store with one of {}", SCHEMES.join(", "))));
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(refused(format!("expected {scheme}://NAME without a path, or {scheme}:// for all")));
        }
        let options: BTreeMap<String, String> =
            options.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
        client::check(scheme, &options).map_err(refused)?;
        self.0.insert(format!("{scheme}://{authority}"), options);
        Ok(())
    }

    /// Returns the options of a store, or those of all stores of its scheme; `None` if it takes them
    /// from the environment.
    pub(super) fn of_store(&self, key: &str) -> Option<&BTreeMap<String, String>> {
        let all = key.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
        self.0.get(key).or_else(|| self.0.get(&all?))
    }

    /// Returns the values that no text may have.
    pub(super) fn secrets(&self, key: &str) -> Secrets {
        let is_public = |key: &str| PUBLIC.iter().any(|part| key.contains(part)) && !key.contains("key");
        let given = self.of_store(key).into_iter().flatten();
        let given = given
            .filter(|(key, value)| !is_public(key) && !matches!(value.as_str(), "true" | "false"))
            .map(|(_, value)| value.clone());
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.to_ascii_uppercase();
            let is_of_store = ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
            let is_secret = is_of_store && SECRET.iter().any(|part| name.contains(part));
            is_secret.then(|| value.into_string().ok())?
        });
        let mut secrets: Vec<String> = given.chain(environment).filter(|value| value.len() >= MASKED_BYTES).collect();
        // A secret may be a part of another one.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        Secrets(secrets)
    }
}

/// Values that are masked in texts.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Returns a text in which `***` stands for each secret.
    pub fn masked(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(url: &str, key: &str) -> Result<StoreOptions> {
        let mut options = StoreOptions::default();
        options.set(url, [(key.to_owned(), "marker-of-a-secret".to_owned())])?;
        Ok(options)
    }

    #[test]
    fn unknown_urls_and_keys_are_refused_without_their_values() {
        for (url, key, expected) in [
            ("s3://bucket/folder", "region", "s3://bucket/folder: expected s3://NAME without a path"),
            ("bucket", "region", "bucket: expected the URL of a store with one of s3"),
            ("s3://bucket", "acces_key_id", "s3://bucket: unknown option \"acces_key_id\""),
            ("gs://bucket", "access_key_id", "gs://bucket: unknown option \"access_key_id\""),
            ("s3://bucket", "max_retries", "s3://bucket: option max_retries: expected a whole number"),
            ("s3://bucket", "retry_timeout", "s3://bucket: option retry_timeout: expected a time"),
        ] {
            let error = set(url, key).unwrap_err().to_string();
            assert!(error.starts_with(&format!("object_stores: {expected}")), "{error}");
            assert!(!error.contains("marker"), "{error}");
        }
    }

    #[test]
    fn the_options_of_a_bucket_precede_those_of_its_scheme() {
        let mut options = set("s3://", "region").unwrap();
        options.set("s3://bucket/", [("secret_access_key".to_owned(), "marker-of-a-secret".to_owned())]).unwrap();
        assert!(options.of_store("s3://bucket").unwrap().contains_key("secret_access_key"));
        assert!(options.of_store("s3://other").unwrap().contains_key("region"));
        assert_eq!(options.of_store("gs://bucket"), None);
        let secrets = options.secrets("s3://bucket");
        assert_eq!(secrets.masked("got marker-of-a-secret."), "got ***.");
        assert_eq!(format!("{secrets:?}"), "***");
    }
}
