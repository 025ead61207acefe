/**
 * Names that a pickle may import: what torch.load(weights_only=True), PyTorch's default since 2.6, takes by itself (torch/_weights_only_unpickler.py)
 * and NumPy's own array constructors; and the records that Transformers' Trainer leaves beside a model, which are plain data classes and enums.
 * A list of what is bad would be passed by: two harmless-looking imports make any third one.
 */
const exact = new Set([
  'collections OrderedDict',
  'collections Counter',
  'collections defaultdict',
  '_codecs encode',
  ...['builtins', '__builtin__'].flatMap((module) =>
    ['bytearray', 'set', 'frozenset', 'complex', 'list', 'dict', 'int', 'float', 'tuple', 'slice', 'range', 'bool', 'str', 'bytes'].map(
      (name) => `${module} ${name}`,
    ),
  ),
  ...['numpy.core.multiarray', 'numpy._core.multiarray'].flatMap((module) => [`${module} _reconstruct`, `${module} scalar`]),
  'numpy ndarray',
  'numpy dtype',
  'torch Size',
  'torch Tensor',
  'torch device',
  'torch.nn.parameter Parameter',
  'torch.nn.parameter Buffer',
  'torch.nn Parameter',
  'torch.serialization _get_layout',
  'torch.storage UntypedStorage',
  'torch.storage TypedStorage',
  'torch._tensor _rebuild_from_type_v2',
  'transformers.training_args TrainingArguments',
  'transformers.training_args OptimizerNames',
  'transformers.training_args_seq2seq Seq2SeqTrainingArguments',
  'transformers.trainer_pt_utils AcceleratorConfig',
  'transformers.integrations.deepspeed HfDeepSpeedConfig',
  'transformers.integrations.deepspeed HfTrainerDeepSpeedConfig',
  'transformers.deepspeed HfTrainerDeepSpeedConfig',
  'accelerate.state PartialState',
  'accelerate.utils.dataclasses DistributedType',
  'accelerate.utils.dataclasses DeepSpeedPlugin',
]);

const families: readonly RegExp[] = [
  /^torch\._utils _rebuild_(parameter|parameter_with_state|qtensor|tensor|tensor_v2|tensor_v3|sparse_tensor|meta_tensor_no_storage|nested_tensor|wrapper_subclass|device_tensor_from_numpy|device_tensor_from_cpu_tensor)$/,
  /^torch (?:Bool|Byte|Char|Short|Int|Long|Half|Float|Double|BFloat16|ComplexFloat|ComplexDouble|QInt8|QUInt8|QInt32|QUInt4x2|QUInt2x4)(?:Storage|Tensor)$/,
  /^torch\.cuda (?:Bool|Byte|Char|Short|Int|Long|Half|Float|Double|BFloat16)(?:Storage|Tensor)$/,
  /^torch (?:bool|u?int(?:1|2|3|4|5|6|7|8|16|32|64)|bfloat16|half|float|double|long|short|float(?:16|32|64)|float(?:8_e\w+|4_e\w+)|complex(?:32|64|128)|cfloat|cdouble|chalf|qint8|quint8|qint32|quint4x2|quint2x4|per_tensor_affine|per_channel_affine|per_tensor_symmetric|per_channel_symmetric|per_channel_affine_float_qparams|strided|sparse_coo|sparse_csr|sparse_csc|sparse_bsr|sparse_bsc)$/,
  /^numpy\.dtypes \w+DType$/,
  /^transformers\.trainer_utils \w*(?:Strategy|Type)$/,
];

/** True when a pickle may import that. `name` is `module name`. */
export function isListed(name: string): boolean {
  return exact.has(name) || families.some((family) => family.test(name));
}
