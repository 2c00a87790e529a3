# SPDX-License-Identifier: MIT
# What summary(lm()) says of each group of rows.csv, to lm.csv: "Rscript lm.R" in this folder.
# A row per group, 17 digits; empty where R has NA (coefficients that are left out, no F) or NaN.
options(warn = 2)
TERMS <- c("Intercept", "x1", "x2", "x3", "x4")
PER_TERM <- c(params = "Estimate", bse = "Std. Error", tvalues = "t value", pvalues = "Pr(>|t|)")

# R's own reading of a decimal may be a unit in the last place off. A whole number over 10^4 is
# the nearest float64, which is what Python reads.
nearest <- function(x) round(1e4 * x) / 1e4

fit <- function(rows) {
  formula <- reformulate(TERMS[1 + seq_len(rows$k[1])], "y", intercept = rows$intercept[1] == 1)
  model <- if (anyNA(rows$w)) lm(formula, rows) else lm(formula, rows, weights = w)
  s <- summary(model)
  f <- if (is.null(s$fstatistic)) rep(NA, 3) else unname(s$fstatistic)
  table <- coef(s)  # of the coefficients that are not NA
  found <- match(TERMS, sub("(Intercept)", "Intercept", rownames(table), fixed = TRUE))
  values <- table[found, PER_TERM]
  c(
    nobs = nobs(model), df_resid = s$df[2], sigma = s$sigma, rsquared = s$r.squared,
    rsquared_adj = s$adj.r.squared, fvalue = f[1], f_pvalue = pf(f[1], f[2], f[3], lower.tail = FALSE),
    setNames(c(values), outer(TERMS, names(PER_TERM), function(term, name) paste0(name, "_", term)))
  )
}

rows <- read.csv("rows.csv")
numbers <- c("w", "x1", "x2", "x3", "x4", "y")
rows[numbers] <- lapply(rows[numbers], nearest)
results <- t(sapply(split(rows, rows$group), fit))
text <- apply(results, 2, sprintf, fmt = "%.17g")
text[is.na(results)] <- ""
lines <- apply(cbind(group = rownames(results), text), 1, paste, collapse = ",")
writeLines(c(paste("#", R.version.string), paste(c("group", colnames(results)), collapse = ","), lines), "lm.csv")
