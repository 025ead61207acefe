/** The method of a model that is kept whole in one file, for people: no server reads it. */
export const archiveMethod = 'archive';
