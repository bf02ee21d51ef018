//! Paths in Rust source that lead out of their module, found in the tokens: so also inside macro calls and in
//! types, and never in comments, strings or documentation.

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

/// A source file.
pub struct Source {
    /// For messages.
    pub name: String,
    /// Its module path; empty for the crate's root.
    pub module: Vec<String>,
    /// Its contents.
    pub text: String,
}

/// A mention of something in a crate's root module.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name; `*` for a glob.
    pub name: String,
    /// Line of the mention.
    pub line: usize,
}

/// The module that a file below `src` holds.
pub fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<_> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&**last)) {
        module.pop();
    }
    module
}

/// Every path in `file` that starts at the root of the crate called `root` (`crate` also stands for paths that
/// reach the root by `super`). Code under `#[cfg(test)]` is left out.
pub fn references(file: &Source, root: &str) -> Result<Vec<Reference>> {
    let mut found = Scan { root, references: Vec::new(), test_modules: BTreeSet::new() };
    found.tokens(tokens(file)?, &file.module);
    Ok(found.references)
}

/// Modules declared as `#[cfg(test)] mod NAME;` in any of `files`.
pub fn test_modules(files: &[Source]) -> Result<BTreeSet<Vec<String>>> {
    let mut found = Scan { root: "crate", references: Vec::new(), test_modules: BTreeSet::new() };
    for file in files {
        found.tokens(tokens(file)?, &file.module);
    }
    Ok(found.test_modules)
}

/// What a crate's root re-exports, and the module it comes from.
pub fn root_exports(text: &str) -> Result<BTreeMap<String, String>> {
    let file = Source { name: "lib.rs".into(), module: vec![], text: text.into() };
    let mut exports = BTreeMap::new();
    let mut tokens = tokens(&file)?.into_iter();
    while let Some(token) = tokens.next() {
        if token.to_string() != "use" {
            continue;
        }
        let mut names = Vec::new();
        leaves(tokens.by_ref().take_while(|token| token.to_string() != ";"), &mut names);
        if let Some((module, items)) = names.split_first() {
            exports.extend(items.iter().map(|item| (item.clone(), module.clone())));
        }
    }
    Ok(exports)
}

fn tokens(file: &Source) -> Result<TokenStream> {
    TokenStream::from_str(&file.text)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("{} is not Rust", file.name))
}

fn leaves(tokens: impl Iterator<Item = TokenTree>, names: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident != "crate" && ident != "self" => names.push(ident.to_string()),
            TokenTree::Group(group) => leaves(group.stream().into_iter(), names),
            _ => {}
        }
    }
}

struct Scan<'a> {
    root: &'a str,
    references: Vec<Reference>,
    test_modules: BTreeSet<Vec<String>>,
}

impl Scan<'_> {
    fn tokens(&mut self, stream: TokenStream, module: &[String]) {
        let tokens: Vec<_> = stream.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                _ if is_test_attribute(tokens.get(at..).unwrap_or_default()) => {
                    self.skip_test_item(&tokens, at + 2, module)
                }
                TokenTree::Ident(ident) if ident == self.root => self.path(&tokens, at + 1, vec![]),
                TokenTree::Ident(ident) if ident == "super" => {
                    let parent = module.split_last().map_or(&[][..], |(_, parent)| parent);
                    self.path(&tokens, at + 1, parent.to_vec())
                }
                TokenTree::Ident(ident) if ident == "mod" => self.inline_module(&tokens, at, module),
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), module);
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    /// `tokens[at..]` follows a path's prefix that leads to the module `base`. Returns where to go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize, mut base: Vec<String>) -> usize {
        let colons = |at: usize| [at, at + 1].iter().all(|at| is_punct(tokens.get(*at), ':'));
        if !colons(at) {
            return at;
        }
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(ident)) if ident == "super" => {
                base.pop();
                self.path(tokens, at + 3, base)
            }
            Some(TokenTree::Ident(ident)) => {
                self.item(ident, &base);
                at + 3
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                self.use_list(group, &base);
                at + 3
            }
            Some(star) if is_punct(Some(star), '*') && base.is_empty() && self.root == "crate" => {
                self.references.push(Reference { name: "*".into(), line: star.span().start().line });
                at + 3
            }
            _ => at + 2,
        }
    }

    /// The list in `use PREFIX::{..}`, whose prefix leads to `base`.
    fn use_list(&mut self, list: &Group, base: &[String]) {
        let tokens: Vec<_> = list.stream().into_iter().collect();
        for part in tokens.split(|token| is_punct(Some(token), ',')) {
            match part.first() {
                Some(TokenTree::Ident(ident)) if ident == "super" => {
                    let parent = base.split_last().map_or(&[][..], |(_, parent)| parent);
                    self.path(part, 1, parent.to_vec());
                }
                Some(TokenTree::Ident(ident)) if ident != "self" => self.item(ident, base),
                _ => {}
            }
        }
    }

    fn item(&mut self, ident: &Ident, base: &[String]) {
        if base.is_empty() {
            self.references.push(Reference { name: ident.to_string(), line: ident.span().start().line });
        }
    }

    fn inline_module(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        match (tokens.get(at + 1), tokens.get(at + 2)) {
            (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                let inner: Vec<_> = module.iter().cloned().chain([name.to_string()]).collect();
                self.tokens(body.stream(), &inner);
                at + 3
            }
            _ => at + 1,
        }
    }

    /// Skips the item behind `#[cfg(test)]`: up to its `;` or its body.
    fn skip_test_item(&mut self, tokens: &[TokenTree], from: usize, module: &[String]) -> usize {
        let mut at = from;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(ident) if ident == "mod" => {
                    if let (Some(TokenTree::Ident(name)), true) =
                        (tokens.get(at), is_punct(tokens.get(at + 1), ';'))
                    {
                        self.test_modules.insert(module.iter().cloned().chain([name.to_string()]).collect());
                    }
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    while tokens.get(at).is_some_and(|token| !is_punct(Some(token), ';')) {
                        at += 1;
                    }
                }
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                _ if is_punct(Some(token), ';') => break,
                _ => {}
            }
        }
        at
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    match tokens {
        [hash, TokenTree::Group(group), ..] => {
            is_punct(Some(hash), '#') && group.stream().to_string().replace(' ', "") == "cfg(test)"
        }
        _ => false,
    }
}
