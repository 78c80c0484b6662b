import { defineConfig } from 'vitest/config';

// biome-ignore lint/style/noDefaultExport: the configuration is read from the default export.
export default defineConfig({
  test: {
    include: ['test/long/**/*.test.ts'],
    // A repository without a long suite is a mistake of the configuration, never a success.
    passWithNoTests: false,
    testTimeout: 1_200_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
