// What a pass over int8 codes can promise about exact scores, and why it loses none of the top K.
//
// Notation. q is a query, e_i an item of the catalog, M >= every |e_i|, u32 = 2^-24. The codes are of e'_i = 2^-c e_i
// (layout.hpp): e'_i = s_i c_i + r_i, |r_i| <= rho_i, |e'_i| <= M'. The query is scaled to q' = 2^h q with max |q'_j|
// in [1, 2) and coded likewise: q' = t a + p with integers |a_j| <= 127. Scaling by powers of two is exact in float64
// and changes no order. Let x_i = q'.e'_i / t, the true dot in units of t. With the integer D_i = a.c_i,
//
//     x_i = a.e'_i + p.e'_i / t = s_i D_i + a.r_i + p.e'_i / t,
//
// so by Cauchy-Schwarz x_i is within alpha rho_i + P of s_i D_i, where alpha >= |a| and P >= |p| M' / t.
//
// Rounding of the pass. It computes upper_i and lower_i = s_i D_i +- alpha rho_i in float32: D_i to float32, alpha
// rho_i, the product by s_i and the sum round once each (or the last two together, where there is a fused
// multiply-add), so each is within 4 u32 (1 + 4 u32) (s_i |D_i| + alpha rho_i) of the true value, and an underflow adds
// at most 2^-125. By Cauchy-Schwarz s_i |D_i| <= |a| |s_i c_i| <= alpha (M' + rho_i). With R >= every rho_i,
//
//     E = 2^-21 alpha (M' + 2 R) + 2^-100
//
// is at least twice that error; the other half covers the float64 roundings of P, E and of the threshold below, each
// a few 2^-53 of alpha (M' + 2 R) or of P <= 2^9 alpha M' (|p_j| <= t, so |p| / t <= sqrt d, and |a| >= 127).
// Nothing overflows: t is in [1/127, 2/127], s_i and M' are below 2, alpha at most 127 * 2^7, and rho_i below 64: that
// of a zero code is 8 s sqrt(d) in nested codes.
//
// Nested codes (layout.hpp) are c = 16 h - 128 + l, so c = 8 (2 h - 15) + (l - 8). A pass over the high halves is one
// over codes 2 h - 15 with the step 8 s and the residual vector r + s (l - 8), whose norm is at most rho + s |l - 8| =:
// rho': all of the above holds with that step and rho', and R >= every rho'. For an item that is left, the low halves
// give the integer T = (l - 8).a, and s D = 8 s (2 h - 15).a + s T. So the middle of its bounds, plus s T, +- alpha
// rho, are bounds as of a pass over the whole codes. The middle is within 4 u32 (1 + 4 u32) alpha (M' + 2 R) of 8 s (2
// h - 15).a, the rest is float64, and rounding the bounds to float32 adds u32 alpha (M' + 2 rho): E is 8 u32 alpha (M'
// + 2 R), at least 1.5 times the sum, and what it has more still covers the float64 roundings.
//
// Rounding of the score. The score is f_i = fl32(fl64(w y_i~)), w the scale and y_i~ the float64 sum for y_i = q.e_i.
// Products of two float32 are exact in float64, and d <= 2^14 sums round, so with V = w |q| M
//     |f_i - w y_i| <= V ((d + 2) 2^-52 + u32 (1 + 2^-20)) + 2^-149 =: F
// unless float32 overflows, which needs V >= 2^127. So y_j - y_i > 2 F / w makes f_j > f_i, a strict win with no tie
// for the ids to break. In units of t that is x_j - x_i > G with
//     G = (2^-22 |q'| M' + 2^(h - c - 147) / w) / t  >  2 F 2^(h - c) / (w t).
//
// The threshold. Let L be a number that lower_j >= L holds for, for K distinct items j that may be found. Each has x_j
// >= L - E - P. An item i with upper_i <= L - 2 (E + P) - G has x_i <= upper_i + E + P <= x_j - G for all K of them, so
// K items that may be found rank strictly above it: it is not in the top K, and dropping it changes nothing. What is
// never dropped is scored and ordered exactly (score.hpp). Where V may reach 2^127, G is infinite: nothing is dropped.
//
// An exact score f_j found on the way serves as well: x_j >= 2^(h - c) f_j / (w t) - G / 2, so
//     lower_j = 2^(h - c) f_j / (w t) + P - G / 2
// keeps the promise x_j >= lower_j - E - P.
#pragma once

#include <cstdint>
#include <vector>

#include "scan/layout.hpp"

namespace mtaw {

// A query in the kernels' terms. `codes` and `pairs` belong to the caller.
struct CodedQuery {
    std::int32_t code_sum = 0;  // sum of a
    float spread = 0;           // alpha: |a|, rounded up
    double width = 0;           // 2 (E + P) + G: how far under L an upper bound must be to be dropped
    double lift = 0;            // P - G / 2: from an exact score in units of t to its `lower`
    double unit = 0;            // 2^(h - c) / (w t): from an exact score to units of t
};

// Codes query float32[d] into codes int8[4 * code_lines(d)] (zeros past d). Returns false if it is not finite.
bool code_query(const float* query, std::int64_t d, double scale, const ScanSummary& summary, std::int8_t* codes,
                CodedQuery* coded);

// `value` rounded to float32 toward -infinity (+infinity).
float rounded_down(double value);
float rounded_up(double value);

}  // namespace mtaw
