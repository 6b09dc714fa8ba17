//! SavedModels that no framework wrote: which meta graph is read, and how much of a file is.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use lamina::contract::contract::{Field, Shape, Signature};
use lamina::contract::dtype::DataType;
use lamina::contract::file_kind::FileKind;
use lamina::contract::reading::Reading;
use lamina::contract::saved_model::read;
use lamina::contract::saved_model_meta::{SavedModelError, Tags};
use lamina::contract::saved_model_text;
use lamina::contract::text_source::BUFFER_BYTES;
use lamina::fault::{Failure, Fault, one_line};

use super::made_up::{HugeFile, Numbers, Part, message, varint};

fn read_bytes(bytes: &[u8]) -> Result<Reading, SavedModelError> {
    read(Cursor::new(bytes), bytes.len() as u64, &Tags::default())
}

/// A meta graph with these tags, and one signature with one output of a type.
fn meta_graph(tags: &[&str], signature: &str, dtype: u8) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| message(4, tag.as_bytes())).collect();
    let output = [message(1, b"y"), message(2, &[&[0x10, dtype][..], &message(3, b"")].concat())].concat();
    let entry = [message(1, signature.as_bytes()), message(2, &message(2, &output))].concat();
    [message(1, &tags), message(5, &entry)].concat()
}

#[test]
fn a_graph_of_eight_gib_is_stepped_over() {
    let after = meta_graph(&["serve"], "predict", 1);
    let hole_bytes = 8_u64 << 30;
    let graph = [&[0x12][..], &varint(hole_bytes)].concat();
    let head = [&[0x12][..], &varint(graph.len() as u64 + hole_bytes + after.len() as u64), &graph].concat();
    let mut file = HugeFile::new(vec![Part::Bytes(head), Part::Hole(hole_bytes), Part::Bytes(after)]);
    let size_bytes = file.size_bytes();
    let reading = read(&mut file, size_bytes, &Tags::default()).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs, [Field::new("y", DataType::Float, Shape::scalar())]);
    assert_eq!(reading.model_type, "tensorflow:unknown");
    assert!(file.read_bytes < 32 << 10, "{} bytes", file.read_bytes);
}

/// The signatures of a file with these meta graphs, and what is said of the choice.
fn chosen(graphs: &[Vec<u8>], tags: &str) -> Result<(Vec<Signature>, Vec<String>), SavedModelError> {
    let file: Vec<u8> = graphs.iter().flat_map(|graph| message(2, graph)).collect();
    let reading = read(Cursor::new(&file), file.len() as u64, &Tags::new([tags]))?;
    Ok((reading.contract.signatures, reading.warnings))
}

/// The signature that [`meta_graph`] makes.
fn is(name: &str, dtype: DataType) -> Signature {
    Signature { name: name.to_owned(), inputs: Vec::new(), outputs: vec![Field::new("y", dtype, Shape::scalar())] }
}

#[test]
fn among_meta_graphs_the_one_that_is_served_is_read() {
    let signatures = |graphs: &[Vec<u8>]| chosen(graphs, "").map(|(signatures, _)| signatures);
    let train = meta_graph(&["train"], "f", 2);
    let serve = meta_graph(&["serve"], "f", 1);
    let gpu = meta_graph(&["serve", "gpu"], "f", 9);
    assert_eq!(signatures(&[train.clone(), gpu.clone(), serve.clone()]).unwrap(), [is("f", DataType::Float)]);
    assert_eq!(signatures(&[train.clone(), gpu.clone()]).unwrap(), [is("f", DataType::Int64)]);
    // A type that no contract has matters only where it is served.
    assert_eq!(signatures(&[meta_graph(&["train"], "f", 24), serve.clone()]).unwrap(), [is("f", DataType::Float)]);
    assert_eq!(signatures(&[serve, meta_graph(&["serve"], "f", 2)]).unwrap(), [is("f", DataType::Float)]);
    let other = meta_graph(&["other"], "g", 3);
    assert_eq!(signatures(&[train.clone(), other, train.clone()]).unwrap(), [is("f", DataType::Double), is("g", DataType::Int32)]);
    let error = signatures(&[train, meta_graph(&["b", "a"], "f", 1)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the SavedModel holds different signatures `f` in meta graphs tagged {train}, {a, b}, and none tagged `serve` alone"
    );
    assert_eq!(error.remedy().unwrap(), "say which meta graph with `--tag`, or save the one to be served with the tag `serve`");
    assert!(matches!(signatures(&[]), Err(SavedModelError::OtherFile { kind: FileKind::Empty })));
    assert!(matches!(read_bytes(b"\x08\x01"), Err(SavedModelError::NoMetaGraph)));
    assert!(matches!(signatures(&[meta_graph(&["serve"], "", 1)]), Err(SavedModelError::Invalid(_))));
    assert!(matches!(signatures(&[meta_graph(&["serve"], "f", 0)]), Err(SavedModelError::Dtype { .. })));
}

#[test]
fn the_tags_that_are_asked_for_choose_and_the_choice_is_told() {
    let graphs = [meta_graph(&["train"], "f", 2), meta_graph(&["serve", "gpu"], "f", 9), meta_graph(&["serve"], "f", 1)];
    let (signatures, said) = chosen(&graphs, "").unwrap();
    assert_eq!(signatures, [is("f", DataType::Float)]);
    assert_eq!(said, ["of the meta graphs tagged {train}, {gpu, serve}, {serve}, the one tagged {serve} was read"]);
    let (signatures, said) = chosen(&graphs, " gpu,serve,").unwrap();
    assert_eq!(signatures, [is("f", DataType::Int64)]);
    assert_eq!(said, ["of the meta graphs tagged {train}, {gpu, serve}, {serve}, the one tagged {gpu, serve} was read"]);
    let (signatures, said) = chosen(&[meta_graph(&["b"], "f", 1), meta_graph(&["a"], "g", 1)], "").unwrap();
    assert_eq!(signatures.len(), 2);
    assert_eq!(said, ["the signatures of the meta graphs tagged {b}, {a} are read together"]);
    assert_eq!(chosen(&graphs[..1], "").unwrap().1, [""; 0]);
    let error = chosen(&graphs, "gpu").unwrap_err();
    assert_eq!(error.to_string(), "the SavedModel holds no meta graph tagged {gpu}; it holds those tagged {train}, {gpu, serve}, {serve}");
    assert_eq!(error.fault(), Fault::Usage);
    assert_eq!(Tags::new(["serve", "gpu"]), Tags::new(["gpu, serve"]));
    let many: Vec<Vec<u8>> = (0..12).map(|index| meta_graph(&[&index.to_string()], "f", 1)).collect();
    let text = chosen(&many, "x").unwrap_err().to_string();
    assert!(text.ends_with("{8}, {9}, …"), "{text}");
}

#[test]
fn a_model_that_only_grows_in_memory_is_refused() {
    let names: Vec<u8> = (0..20_u32).flat_map(|_| message(4, &vec![b'x'; 1 << 20])).collect();
    let text = one_line(&read_bytes(&message(2, &message(1, &names))).unwrap_err());
    assert!(text.contains("more than 16777216 bytes of names"), "{text}");
    let composite = (0..100).fold(vec![0x10, 1], |inner, _| message(5, &message(2, &inner)));
    let entry = [message(1, b"x"), message(2, &composite)].concat();
    let signature = [message(1, b"f"), message(2, &message(1, &entry))].concat();
    let text = one_line(&read_bytes(&message(2, &message(5, &signature))).unwrap_err());
    assert!(text.contains("composite tensors are nested too deep"), "{text}");
}

/// A text in which one piece comes many times, and what was asked of it.
struct Repeated {
    head: &'static [u8],
    piece: &'static [u8],
    times: u64,
    tail: &'static [u8],
    position: u64,
    largest_request_bytes: usize,
}

impl Repeated {
    fn size_bytes(&self) -> u64 {
        self.head.len() as u64 + self.piece.len() as u64 * self.times + self.tail.len() as u64
    }
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest_request_bytes = self.largest_request_bytes.max(buffer.len());
        let (head_bytes, pieces_bytes) = (self.head.len() as u64, self.piece.len() as u64 * self.times);
        let rest = match self.position.checked_sub(head_bytes) {
            None => &self.head[self.position as usize..],
            Some(at) if at < pieces_bytes => &self.piece[(at % self.piece.len() as u64) as usize..],
            Some(at) => &self.tail[(at - pieces_bytes) as usize..],
        };
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Repeated {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.position = at;
        Ok(at)
    }
}

#[test]
fn a_text_whose_constants_are_long_is_passed_through_one_buffer() {
    let mut file = Repeated {
        head: b"meta_graphs { graph_def { node { attr { value { tensor { tensor_content: \"",
        piece: b"\\000\\377\\\"}}{<'#\xc3\xbc signature_def { key: 'none' } 0123456789012345678901234567890123456789012345678901234567890123456789",
        times: 1 << 18,
        tail: b"\" } } } } } signature_def { key: 'f' value { outputs { key: 'y' value { dtype: DT_FLOAT tensor_shape {} } } } } } ?",
        position: 0,
        largest_request_bytes: 0,
    };
    let size_bytes = file.size_bytes();
    assert!(size_bytes > 24 << 20);
    let reading = saved_model_text::read(&mut file, size_bytes - 1, &Tags::default()).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs, [Field::new("y", DataType::Float, Shape::scalar())]);
    assert_eq!(file.position, size_bytes - 1);
    assert!(file.largest_request_bytes <= BUFFER_BYTES, "{} bytes at once", file.largest_request_bytes);
    // An error behind it shows a line's worth of it.
    let text = one_line(&saved_model_text::read(&mut file, size_bytes, &Tags::default()).unwrap_err());
    assert!(text.contains(": expected a field's name, and found `?`\n") && text.len() < 300, "{text}");
}

#[test]
fn a_text_that_only_grows_in_memory_is_refused() {
    let read = |head, piece, times| {
        let mut file = Repeated { head, piece, times, tail: b"", position: 0, largest_request_bytes: 0 };
        let size_bytes = file.size_bytes();
        one_line(&saved_model_text::read(&mut file, size_bytes, &Tags::default()).unwrap_err()).lines().next().unwrap().to_owned()
    };
    let text = read(b"meta_graphs { meta_info_def { tags: '", b"0123456789abcdef", (16 << 20) / 16 + 1);
    assert!(text.ends_with("saved_model.pbtxt:1:16777254: more than 16777216 bytes of names"), "{text}");
    let text = read(b"meta_graphs { meta_info_def { ", b"tags: '' ", (1 << 20) + 1);
    assert!(text.ends_with(": more than 1048576 protobuf fields"), "{text}");
    let text = read(b"meta_graphs { meta_info_def { ", b"x", 1 << 20);
    assert!(text.ends_with("saved_model.pbtxt:1:31: a name or number of more than 1024 bytes"), "{text}");
    let text = read(b"meta_graphs { graph_def ", b"{ a ", 1 << 20);
    assert!(text.ends_with(": messages are nested deeper than 100 levels"), "{text}");
    let text = read(b"meta_graphs { signature_def { value { inputs { value ", b"{ composite_tensor { components ", 1 << 10);
    assert!(text.ends_with(": messages are nested deeper than 100 levels"), "{text}");
}

#[test]
fn no_soup_of_the_texts_own_words_is_a_panic_or_a_hang() {
    let words = "meta_graphs signature_def inputs outputs key value dtype DT_FLOAT tensor_shape dim size -1 unknown_rank true meta_info_def \
                 tags composite_tensor components { } { } < > [ ] : : , ; \"a\" 'b' ' \" \\ # - 0x [a.b/c] ü \u{0}";
    let words: Vec<&str> = words.split(' ').collect();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..20_000 {
        let blank = [" ", "\n", ""][numbers.below(3)];
        let text: Vec<&str> = (0..numbers.below(60)).map(|_| words[numbers.below(words.len())]).collect();
        let text = format!("meta_graphs {{ {}", text.join(blank));
        match saved_model_text::read(Cursor::new(&text), text.len() as u64, &Tags::default()) {
            Ok(reading) => reading.contract.validate().unwrap(),
            Err(error) => assert!(one_line(&error).lines().count() <= 4, "{text:?}"),
        }
    }
}
