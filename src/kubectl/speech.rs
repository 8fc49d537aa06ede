//! How the program is called in texts for people: `linkspan`, or `kubectl linkspan` for who has started it so. Conditions that
//! controllers write say the former, and cannot know who reads them.

/// Commands of the program that its reader calls through kubectl; none where it is called by its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Speech(Vec<String>);

impl Speech {
    /// Of somebody who calls these commands through kubectl.
    pub fn through_kubectl(commands: impl Iterator<Item = String>) -> Self {
        Self(commands.collect())
    }

    /// A text in which calls of the program are such as its reader types.
    pub fn spoken(&self, text: &str) -> String {
        let mut said = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("linkspan ") {
            let (before, call) = rest.split_at(at);
            said.push_str(before);
            // As a name of something else, behind kubectl already, or run in a pod.
            let is_other = said.ends_with(|c: char| c.is_alphanumeric() || "-_/.".contains(c))
                || said.ends_with("kubectl ")
                || said.ends_with("-- ");
            let word = call["linkspan ".len()..].split(|c: char| !c.is_alphanumeric() && c != '-').next();
            if !is_other && self.0.iter().any(|name| Some(name.as_str()) == word) {
                said.push_str("kubectl ");
            }
            said.push_str("linkspan ");
            rest = &call["linkspan ".len()..];
        }
        said + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_it_by_its_own_name_reads_that_name() {
        let text = "make one with `linkspan token create`";
        assert_eq!(Speech::default().spoken(text), text);
        let kubectl = Speech::through_kubectl(["token".to_owned()].into_iter());
        assert_eq!(kubectl.spoken(text), "make one with `kubectl linkspan token create`");
    }
}
