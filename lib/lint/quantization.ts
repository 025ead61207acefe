import type { Finding, LintModel } from './model.ts';

const hasMethod = [
  'awq',
  'gptq',
  'fp8',
  'compressed-tensors',
  'bitsandbytes',
  'modelopt',
  'mxfp4',
  'aqlm',
  'hqq',
  'quark',
  'torchao',
  'fbgemm_fp8',
];

/** What config.json says of its quantization fits itself, and the files that other tools leave beside it. */
export function quantizationRules({ json }: LintModel): Finding[] {
  const config = json.get('config.json');
  const found = record(config?.quantization_config) ?? record(config?.compression_config);
  const findings: Finding[] = [];
  const error = (text: string) => findings.push({ severity: 'error', rule: 'quantization', text });
  const modelopt = record(json.get('hf_quant_config.json')?.quantization);
  const beside = json.get('quantize_config.json') ?? json.get('quant_config.json');
  if (found === undefined) {
    // A server that reads config.json alone would take the packed weights for plain ones.
    if (beside)
      findings.push({
        severity: 'warning',
        rule: 'quantization',
        text: 'a quantization is described beside config.json, which does not name it',
      });
    return findings;
  }
  const method = found.quant_method;
  if (typeof method !== 'string' || method === '') {
    error('config.json has a quantization_config without quant_method');
    return findings;
  }
  if (method === 'compressed-tensors' && record(found.config_groups) === undefined && found.sparsity_config === undefined) {
    error('quantization_config of compressed-tensors has no config_groups');
  }
  if (!hasMethod.includes(method))
    findings.push({ severity: 'warning', rule: 'quantization', text: `quant_method ${JSON.stringify(method)} is not known to us` });
  const bits = found.bits ?? found.w_bit;
  const others = beside?.bits ?? beside?.w_bit;
  if (['gptq', 'awq'].includes(method) && bits !== undefined && others !== undefined && bits !== others) {
    error(`config.json says ${String(bits)} bits, the file beside it ${String(others)}`);
  }
  if (modelopt !== undefined && !['modelopt', 'modelopt_fp4', 'compressed-tensors', 'fp8'].includes(method)) {
    error(`config.json says ${method}, hf_quant_config.json says ModelOpt's ${String(modelopt.quant_algo)}`);
  }
  return findings;
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
