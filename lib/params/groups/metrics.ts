import { group } from '../declare.ts';

export const metricsParams = group('Metrics', {
  metricsFile: { type: 'string', description: "File for node_exporter's textfile collector, such as modelferry.prom.", 'x-local': true },
  metricsPushUrl: {
    type: 'string',
    pattern: '^https?://',
    'x-shape': 'an address such as https://example.com',
    description: 'Pushgateway that is told of this run.',
  },
});
