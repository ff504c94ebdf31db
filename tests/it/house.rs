//! The rules of the house: imports form no circle, a type name means one thing, functions fit on a screen.
//!
//! The sources are parsed as the compiler finds them, by following `mod x;` from each crate's root. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tidy::root;

/// The crates whose code runs in production, by their roots.
const CRATES: &[&str] = &["src/core/lib.rs", "src/sim/lib.rs", "src/lib.rs"];
/// Type names that each core may have: `plumtree::Input` says it all.
const SHARED_NAMES: &[&str] = &["Input", "Output", "Config", "Message", "Settings", "Limits", "Counters"];
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 8;

/// A file of a crate.
struct File {
    path: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Names that the file defines at its top level.
    defines: BTreeSet<String>,
    /// Names that its `use` lines bind, with what they stand for.
    binds: BTreeMap<String, Vec<String>>,
    /// Every path that it names and that may lead to another file, with its line.
    names: Vec<(Vec<String>, usize)>,
    /// Types that others can name: the name, and the line.
    types: Vec<(String, usize)>,
    /// Functions: the name, the line, and the number of lines.
    functions: Vec<(String, usize, usize)>,
}

/// A crate's files; the root comes first.
struct Tree {
    files: Vec<File>,
}

impl Tree {
    fn load(lib: &str) -> Tree {
        let mut tree = Tree { files: Vec::new() };
        tree.follow(PathBuf::from(lib), None, Vec::new());
        assert!(tree.files.len() > 5, "{lib} declares its modules");
        tree
    }

    fn follow(&mut self, path: PathBuf, parent: Option<usize>, module: Vec<String>) -> usize {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut reader = Reader { module: module.clone(), ..Reader::default() };
        reader.visit_file(&syntax);
        let index = self.files.len();
        let declared = std::mem::take(&mut reader.declared);
        self.files.push(File {
            path: path.clone(),
            parent,
            children: BTreeMap::new(),
            defines: reader.defines,
            binds: reader.binds,
            names: reader.names,
            types: reader.types,
            functions: reader.functions,
        });
        let is_root = path.ends_with("mod.rs") || parent.is_none();
        let folder = if is_root { path.parent().map(Path::to_owned) } else { Some(path.with_extension("")) };
        let folder = folder.expect("a file lies in a folder");
        for name in declared {
            let flat = folder.join(format!("{name}.rs"));
            let child = if root().join(&flat).exists() { flat } else { folder.join(&name).join("mod.rs") };
            let child = self.follow(child, Some(index), [&module[..], std::slice::from_ref(&name)].concat());
            self.files[index].children.insert(name, child);
        }
        index
    }

    /// The file in which what `path` names (from the crate's root) is defined: re-exports are followed.
    fn find(&self, path: &[String], depth: usize) -> usize {
        let mut at = 0;
        for (n, name) in path.iter().enumerate() {
            let file = &self.files[at];
            if let Some(child) = file.children.get(name) {
                at = *child;
            } else {
                let bound = file.binds.get(name).filter(|_| !file.defines.contains(name) && depth < 10);
                return bound.map_or(at, |bound| self.find(&[&bound[..], &path[n + 1..]].concat(), depth + 1));
            }
        }
        at
    }

    /// For each file those that it imports, with the line of the first import; a child may import from its parent.
    fn imports(&self) -> Vec<BTreeMap<usize, usize>> {
        let of = |(index, file): (usize, &File)| {
            let mut all = BTreeMap::new();
            for (path, line) in &file.names {
                let target = self.find(path, 0);
                if target != index && file.parent != Some(target) {
                    all.entry(target).or_insert(*line);
                }
            }
            all
        };
        self.files.iter().enumerate().map(of).collect()
    }
}

/// What a file says, gathered from its syntax.
#[derive(Default)]
struct Reader {
    /// The module in which the reader stands, from the crate's root.
    module: Vec<String>,
    inline: usize,
    declared: Vec<String>,
    defines: BTreeSet<String>,
    binds: BTreeMap<String, Vec<String>>,
    names: Vec<(Vec<String>, usize)>,
    types: Vec<(String, usize)>,
    functions: Vec<(String, usize, usize)>,
}

impl Reader {
    /// A path from the crate's root, if it is one of this crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = self.module.clone();
        match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" => base.extend_from_slice(&path[1..]),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                base.truncate(base.len().checked_sub(ups)?);
                base.extend_from_slice(&path[ups..]);
            }
            first if self.declared.iter().any(|child| child == first) => base.extend_from_slice(path),
            _ => return None,
        }
        Some(base)
    }

    fn flatten(&mut self, prefix: &[String], tree: &syn::UseTree, line: usize) {
        let with = |name: String| [prefix, &[name]].concat();
        let mut leaf = |path: Vec<String>, name: String| {
            let path = if path.last().is_some_and(|last| last == "self") { prefix.to_vec() } else { path };
            if let Some(path) = self.absolute(&path) {
                let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
                self.names.push((path.clone(), line));
                if self.inline == 0 {
                    self.binds.insert(name, path);
                }
            }
        };
        match tree {
            syn::UseTree::Path(path) => self.flatten(&with(path.ident.to_string()), &path.tree, line),
            syn::UseTree::Name(name) => leaf(with(name.ident.to_string()), name.ident.to_string()),
            syn::UseTree::Rename(name) => leaf(with(name.ident.to_string()), name.rename.to_string()),
            syn::UseTree::Glob(_) => leaf(prefix.to_vec(), "*".to_owned()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(prefix, tree, line)),
        }
    }

    fn define(&mut self, name: &syn::Ident, visibility: &syn::Visibility, is_type: bool) {
        if self.inline == 0 {
            self.defines.insert(name.to_string());
        }
        if is_type && !matches!(visibility, syn::Visibility::Inherited) {
            self.types.push((name.to_string(), name.span().start().line));
        }
    }

    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (first, last) = (name.span().start().line, block.span().end().line);
        self.functions.push((name.to_string(), first, last - first + 1));
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(module) if is_test(&module.attrs) => return,
            syn::Item::Mod(module) if module.content.is_none() => self.declared.push(module.ident.to_string()),
            syn::Item::Mod(module) => {
                self.module.push(module.ident.to_string());
                self.inline += 1;
                visit::visit_item_mod(self, module);
                self.inline -= 1;
                self.module.pop();
                return;
            }
            syn::Item::Use(item) => {
                let line = item.span().start().line;
                return self.flatten(&[], &item.tree, line);
            }
            syn::Item::Struct(item) => self.define(&item.ident, &item.vis, true),
            syn::Item::Enum(item) => self.define(&item.ident, &item.vis, true),
            syn::Item::Trait(item) => self.define(&item.ident, &item.vis, true),
            syn::Item::Type(item) => self.define(&item.ident, &item.vis, true),
            syn::Item::Const(item) => self.define(&item.ident, &item.vis, false),
            syn::Item::Static(item) => self.define(&item.ident, &item.vis, false),
            syn::Item::Fn(item) if is_test(&item.attrs) => return,
            syn::Item::Fn(item) => {
                self.define(&item.sig.ident, &item.vis, false);
                self.function(&item.sig.ident, &item.block);
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let path_line = path.span().start().line;
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 {
            let bound = self.binds.get(&parts[0]).map(|bound| [&bound[..], &parts[1..]].concat());
            if let Some(path) = self.absolute(&parts).or(bound) {
                self.names.push((path, path_line));
            }
        }
        visit::visit_path(self, path);
    }
}

/// The circles: sets of files each of which leads to every other one (Tarjan).
fn circles(imports: &[BTreeMap<usize, usize>]) -> Vec<Vec<usize>> {
    struct Walk<'a> {
        imports: &'a [BTreeMap<usize, usize>],
        order: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        next: usize,
        found: Vec<Vec<usize>>,
    }
    fn visit(walk: &mut Walk<'_>, at: usize) {
        (walk.order[at], walk.low[at]) = (Some(walk.next), walk.next);
        walk.next += 1;
        walk.stack.push(at);
        for &to in walk.imports[at].keys() {
            match walk.order[to] {
                None => {
                    visit(walk, to);
                    walk.low[at] = walk.low[at].min(walk.low[to]);
                }
                Some(order) if walk.stack.contains(&to) => walk.low[at] = walk.low[at].min(order),
                Some(_) => {}
            }
        }
        if Some(walk.low[at]) == walk.order[at] {
            let from = walk.stack.iter().position(|on| *on == at).expect("it was pushed");
            walk.found.push(walk.stack.split_off(from));
        }
    }
    let n = imports.len();
    let mut walk = Walk { imports, order: vec![None; n], low: vec![0; n], stack: vec![], next: 0, found: vec![] };
    for at in 0..n {
        if walk.order[at].is_none() {
            visit(&mut walk, at);
        }
    }
    walk.found.into_iter().filter(|circle| circle.len() > 1).collect()
}

/// A reader can start at any file and read downwards. A parent may name its children, and they it.
#[test]
fn imports_form_no_circle() {
    let mut faults = String::new();
    for lib in CRATES {
        let tree = Tree::load(lib);
        let imports = tree.imports();
        for circle in circles(&imports) {
            writeln!(faults, "a circle of {}:", circle.len()).expect("a String takes every write");
            for &from in &circle {
                for (to, line) in imports[from].iter().filter(|(to, _)| circle.contains(to)) {
                    let (from, to) = (tree.files[from].path.display(), tree.files[*to].path.display());
                    writeln!(faults, "  {from}:{line} -> {to}").expect("a String takes every write");
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// A reader who has met a name knows what it means wherever he meets it again.
#[test]
fn a_type_name_means_one_thing() {
    let mut faults = String::new();
    for lib in CRATES {
        let tree = Tree::load(lib);
        let mut places = BTreeMap::<&str, Vec<String>>::new();
        for file in &tree.files {
            for (name, line) in file.types.iter().filter(|(name, _)| !SHARED_NAMES.contains(&name.as_str())) {
                places.entry(name).or_default().push(format!("{}:{line}", file.path.display()));
            }
        }
        for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
            writeln!(faults, "{name}: {}", places.join(", ")).expect("a String takes every write");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut faults = String::new();
    let mut lengths = Vec::new();
    for lib in CRATES {
        for file in &Tree::load(lib).files {
            for (name, line, lines) in &file.functions {
                lengths.push(*lines);
                if *lines > FUNCTION_LINES_MAX {
                    let path = file.path.display();
                    writeln!(faults, "{path}:{line}: {name} has {lines} lines").expect("a String takes every write");
                }
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= FUNCTION_LINES_MEDIAN_MAX, "the median of {} functions is {median} lines", lengths.len());
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn a_circle_is_found() {
    let edges = |to: &[&[usize]]| -> Vec<BTreeMap<usize, usize>> {
        to.iter().map(|to| to.iter().map(|to| (*to, 1)).collect()).collect()
    };
    assert!(circles(&edges(&[&[1, 2], &[2], &[]])).is_empty());
    let found = circles(&edges(&[&[1], &[2], &[0], &[0]]));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
}
