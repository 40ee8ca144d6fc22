// Named arrays in the safetensors format, as views of a file's bytes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/files.hpp"

namespace mtaw {

constexpr std::int64_t kAny = -1;  // any extent of an axis

enum class Dtype { f64, f32, f16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

template <typename T>
constexpr Dtype kDtypeOf = Dtype::u8;
template <>
inline constexpr Dtype kDtypeOf<double> = Dtype::f64;
template <>
inline constexpr Dtype kDtypeOf<float> = Dtype::f32;
template <>
inline constexpr Dtype kDtypeOf<std::int64_t> = Dtype::i64;
template <>
inline constexpr Dtype kDtypeOf<std::int32_t> = Dtype::i32;
template <>
inline constexpr Dtype kDtypeOf<std::int8_t> = Dtype::i8;
template <>
inline constexpr Dtype kDtypeOf<std::uint64_t> = Dtype::u64;
template <>
inline constexpr Dtype kDtypeOf<std::uint16_t> = Dtype::u16;

struct Tensor {
    Dtype dtype;
    std::vector<std::int64_t> shape;
    std::int64_t begin;  // in the file, behind its header
    std::size_t place;   // in the header
    const void* data;

    std::int64_t size() const;
};

class TensorFile {
   public:
    // Throws BundleError unless the file is exactly what its header describes.
    explicit TensorFile(FileBytes bytes);

    // Reads the header alone. Throws BundleError unless the file is as long as that says: before a copy is made of it.
    static void check_length(const OpenFile& file);

    const FileBytes& bytes() const { return bytes_; }
    const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
    bool has(std::string_view name) const { return tensors_.contains(name); }

    // The array of that name; throws BundleError unless it has this type and shape.
    template <typename T>
    const T* get(std::string_view name, std::initializer_list<std::int64_t> shape) const {
        return static_cast<const T*>(checked(name, kDtypeOf<T>, shape).data);
    }
    const void* get(std::string_view name, Dtype dtype, std::initializer_list<std::int64_t> shape) const {
        return checked(name, dtype, shape).data;
    }
    // Whether there is an array of that name and type.
    bool is(std::string_view name, Dtype dtype) const {
        const auto found = tensors_.find(name);
        return found != tensors_.end() && found->second.dtype == dtype;
    }
    // Throws BundleError unless the arrays have these names, and all of `optional` or none.
    void check_names(const std::vector<std::string_view>& names,
                     const std::vector<std::string_view>& optional = {}) const;
    // The extent of the first axis of an array.
    std::int64_t length(std::string_view name) const;
    // The bytes of an array of uint8.
    std::string_view text(std::string_view name) const;

   private:
    const Tensor& checked(std::string_view name, Dtype dtype, std::initializer_list<std::int64_t> shape) const;

    FileBytes bytes_;
    std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace mtaw
