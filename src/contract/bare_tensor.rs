//! A tensor ↔ the third dialect's message: `hydrosphere.serving.contract.Tensor` of the 3.x releases.
//!
//! The lists of values are the same under the same numbers; a shape is a packed list of sizes, and an unknown rank is no shape at all. This
//! file judges no values: what a tensor may hold is `tensor.rs`'s to say, which reads the seed era's form only.
//!
//! What must stay true: lossless from the third dialect to the seed era's and back.

use super::dtype::DataType;
use crate::proto::hydrosphere::serving::contract::{MapTensorData as BareMapTensorData, Tensor, TensorShape};
use crate::proto::hydrosphere::tensorflow::tensor_shape_proto::Dim;
use crate::proto::hydrosphere::tensorflow::{MapTensorData, TensorProto, TensorShapeProto};

/// The third dialect's form; an error is a type that it lacks.
///
/// Names of dimensions, the version number and variants have no place there and are left out.
// The recursion, through the parts of a DT_MAP, is as deep as the message, which its maker or its decoder has limited.
pub fn to_bare(tensor: TensorProto) -> Result<Tensor, DataType> {
    if let Some(dtype @ (DataType::Bfloat16 | DataType::Resource | DataType::Variant)) = DataType::from_number(tensor.dtype) {
        return Err(dtype);
    }
    let shape = tensor.tensor_shape.filter(|shape| !shape.unknown_rank);
    let mut map_val = Vec::with_capacity(tensor.map_val.len());
    for element in tensor.map_val {
        let parts = element.subtensors.into_iter().map(|(name, part)| Ok((name, to_bare(part)?)));
        map_val.push(BareMapTensorData { subtensors: parts.collect::<Result<_, DataType>>()? });
    }
    Ok(Tensor {
        dtype: tensor.dtype,
        tensor_shape: shape.map(|shape| TensorShape { dims: shape.dim.into_iter().map(|dim| dim.size).collect() }),
        binary_val: tensor.tensor_content,
        float_val: tensor.float_val,
        double_val: tensor.double_val,
        int_val: tensor.int_val,
        string_val: tensor.string_val,
        scomplex_val: tensor.scomplex_val,
        int64_val: tensor.int64_val,
        bool_val: tensor.bool_val,
        dcomplex_val: tensor.dcomplex_val,
        half_val: tensor.half_val,
        uint32_val: tensor.uint32_val,
        uint64_val: tensor.uint64_val,
        map_val,
    })
}

/// The seed era's form, which is what the rest of the program knows.
// The recursion is as deep as the message, as above.
pub fn from_bare(tensor: Tensor) -> TensorProto {
    let shape = |shape: TensorShape| TensorShapeProto {
        dim: shape.dims.into_iter().map(|size| Dim { size, name: String::new() }).collect(),
        unknown_rank: false,
    };
    let element = |element: BareMapTensorData| MapTensorData {
        subtensors: element.subtensors.into_iter().map(|(name, part)| (name, from_bare(part))).collect(),
    };
    TensorProto {
        dtype: tensor.dtype,
        tensor_shape: tensor.tensor_shape.map(shape),
        version_number: 0,
        tensor_content: tensor.binary_val,
        float_val: tensor.float_val,
        double_val: tensor.double_val,
        int_val: tensor.int_val,
        string_val: tensor.string_val,
        scomplex_val: tensor.scomplex_val,
        int64_val: tensor.int64_val,
        bool_val: tensor.bool_val,
        dcomplex_val: tensor.dcomplex_val,
        half_val: tensor.half_val,
        variant_val: Vec::new(),
        uint32_val: tensor.uint32_val,
        uint64_val: tensor.uint64_val,
        map_val: tensor.map_val.into_iter().map(element).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_goes_both_ways() {
        let part = Tensor { dtype: DataType::String.number(), string_val: vec![b"a".to_vec()], ..Tensor::default() };
        let bare = Tensor {
            dtype: DataType::Map.number(),
            tensor_shape: Some(TensorShape { dims: vec![1, 2] }),
            binary_val: vec![1],
            float_val: vec![2.0],
            double_val: vec![3.0],
            int_val: vec![4],
            string_val: vec![b"5".to_vec()],
            scomplex_val: vec![6.0],
            int64_val: vec![7],
            bool_val: vec![true],
            dcomplex_val: vec![8.0],
            half_val: vec![9],
            uint32_val: vec![10],
            uint64_val: vec![11],
            map_val: vec![BareMapTensorData { subtensors: [("p".to_owned(), part)].into() }],
        };
        assert_eq!(to_bare(from_bare(bare.clone())).unwrap(), bare);
        let scalar = Tensor { tensor_shape: Some(TensorShape::default()), ..Tensor::default() };
        assert_eq!(to_bare(from_bare(scalar.clone())).unwrap(), scalar);
        assert_eq!(to_bare(from_bare(Tensor::default())).unwrap(), Tensor::default());
    }

    #[test]
    fn what_the_third_dialect_cannot_say_is_told() {
        let open = TensorProto { tensor_shape: Some(TensorShapeProto { unknown_rank: true, ..Default::default() }), ..Default::default() };
        assert_eq!(to_bare(open).unwrap().tensor_shape, None);
        let lost = TensorProto { dtype: DataType::Bfloat16.number(), ..TensorProto::default() };
        let element = MapTensorData { subtensors: [("p".to_owned(), lost)].into() };
        assert_eq!(to_bare(TensorProto { map_val: vec![element], ..TensorProto::default() }), Err(DataType::Bfloat16));
    }
}
