//! What a function of an image runs: the image's own words, with the function's over them.

use serde::{Deserialize, Serialize};

use super::manifest::ImageFile;
use crate::function::FunctionConfig;

/// Name of the member under which a configuration keeps [`Overrides`].
pub const IMAGE_CONFIG: &str = "ImageConfig";

/// `ImageConfig` of the Lambda API: "values that override the container image Dockerfile settings". What is absent or empty
/// overrides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Overrides {
    /// Instead of `ENTRYPOINT`.
    #[serde(default)]
    pub entry_point: Option<Vec<String>>,
    /// Instead of `CMD`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Instead of `WORKDIR`.
    #[serde(default)]
    pub working_directory: Option<String>,
}

/// A program to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments; never empty. The program may be a bare name.
    pub argv: Vec<String>,
    /// Absolute.
    pub working_dir: String,
}

impl Overrides {
    /// Those of a configuration; what cannot be read was checked when it came, and is as if it had not been sent.
    pub fn of(config: &FunctionConfig) -> Self {
        let text = config.kept.get(IMAGE_CONFIG);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        is_empty(&self.entry_point)
            && is_empty(&self.command)
            && self.working_directory.as_ref().is_none_or(String::is_empty)
    }

    /// What is run of an image: entry point, then command, each the function's if it has one. `None`: neither has any.
    pub fn over(&self, image: &ImageFile) -> Option<Process> {
        let pick = |own: &Option<Vec<String>>, image: &Vec<String>| match own {
            Some(own) if !own.is_empty() => own.clone(),
            Some(_) | None => image.clone(),
        };
        let mut argv = pick(&self.entry_point, &image.entrypoint);
        argv.extend(pick(&self.command, &image.cmd));
        let own = self
            .working_directory
            .as_deref()
            .filter(|dir| !dir.is_empty());
        let working_dir = own.unwrap_or(&image.working_dir);
        let working_dir = if working_dir.starts_with('/') {
            working_dir.to_owned()
        } else {
            format!("/{working_dir}")
        };
        let has_program = argv.first().is_some_and(|program| !program.is_empty());
        has_program.then_some(Process { argv, working_dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str], working_dir: &str) -> ImageFile {
        ImageFile {
            entrypoint: list(entrypoint),
            cmd: list(cmd),
            working_dir: working_dir.into(),
            ..ImageFile::default()
        }
    }

    #[test]
    fn the_functions_words_win_over_the_images_each_for_itself() {
        let image_of = image(&["/e", "-x"], &["app.handler"], "/var/task");
        let over = |entry: Option<&[&str]>, command: Option<&[&str]>, dir: Option<&str>| {
            let overrides = Overrides {
                entry_point: entry.map(list),
                command: command.map(list),
                working_directory: dir.map(Into::into),
            };
            let process = overrides.over(&image_of).unwrap();
            (process.argv.join(" "), process.working_dir)
        };
        let both = |argv: &str, dir: &str| (argv.to_owned(), dir.to_owned());
        assert_eq!(
            over(None, None, None),
            both("/e -x app.handler", "/var/task")
        );
        assert_eq!(
            over(Some(&[]), Some(&[]), Some("")),
            both("/e -x app.handler", "/var/task")
        );
        assert_eq!(
            over(Some(&["/f"]), None, None),
            both("/f app.handler", "/var/task")
        );
        assert_eq!(
            over(None, Some(&["b.h", "c"]), Some("/w")),
            both("/e -x b.h c", "/w")
        );
        assert_eq!(
            over(Some(&["sh"]), Some(&["-c"]), Some("w")),
            both("sh -c", "/w")
        );
    }

    #[test]
    fn without_any_program_there_is_nothing_to_run() {
        let none = Overrides::default();
        assert_eq!(none.over(&image(&[], &[], "")), None);
        assert_eq!(none.over(&image(&[""], &["x"], "")), None);
        let cmd_only = none.over(&image(&[], &["/bootstrap"], "")).unwrap();
        assert_eq!(
            (cmd_only.argv, &*cmd_only.working_dir),
            (list(&["/bootstrap"]), "/")
        );
    }

    #[test]
    fn overrides_are_read_from_where_the_configuration_keeps_them() {
        let mut config = FunctionConfig::with_defaults("role".into());
        assert!(Overrides::of(&config).is_empty());
        let text = r#"{"EntryPoint":["/e"],"WorkingDirectory":"/w"}"#;
        config.kept.insert(IMAGE_CONFIG.into(), text.into());
        let overrides = Overrides::of(&config);
        assert_eq!(overrides.entry_point, Some(list(&["/e"])));
        assert!(!overrides.is_empty() && overrides.command.is_none());
        config.kept.insert(IMAGE_CONFIG.into(), "nonsense".into());
        assert!(Overrides::of(&config).is_empty());
    }
}
