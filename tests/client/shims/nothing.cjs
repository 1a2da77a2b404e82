// What belongs to other pages of a shop (its store, card payments): imported by the same files, and never called here.
module.exports = {};
