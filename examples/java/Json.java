import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JDK 8 不带 JSON 解析器，这是够用的最小一个。项目里已有 Jackson、Gson、fastjson 的请用它们。
 * 整数成为 Long，其他数成为 BigDecimal，从不经过浮点数：这里面有钱。
 */
final class Json {
    private static final int MAX_DEPTH = 64;

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    /** @return Map、List、String、Long、BigDecimal、Boolean 或 null */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value();
        json.space();
        if (json.at != text.length()) {
            throw json.error();
        }
        return value;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value) {
        if (!(value instanceof Map)) {
            throw new IllegalArgumentException("want a JSON object");
        }
        return (Map<String, Object>) value;
    }

    static String quote(String s) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private Object value() {
        space();
        switch (peek()) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> fields = new LinkedHashMap<>();
        open();
        for (boolean first = true; !close('}'); first = false) {
            comma(first);
            String name = string();
            space();
            expect(':');
            if (fields.containsKey(name)) {
                throw error(); // 同名字段两次：不猜哪个算数
            }
            fields.put(name, value());
        }
        return fields;
    }

    private List<Object> array() {
        List<Object> items = new ArrayList<>();
        open();
        for (boolean first = true; !close(']'); first = false) {
            comma(first);
            items.add(value());
        }
        return items;
    }

    private void open() {
        at++;
        if (++depth > MAX_DEPTH) {
            throw error();
        }
    }

    private boolean close(char end) {
        space();
        if (peek() != end) {
            return false;
        }
        at++;
        depth--;
        return true;
    }

    private void comma(boolean first) {
        if (!first) {
            expect(',');
            space();
        }
    }

    private String string() {
        expect('"');
        StringBuilder out = new StringBuilder();
        while (true) {
            char c = next();
            if (c == '"') {
                return out.toString();
            }
            if (c < ' ') {
                throw error();
            }
            out.append(c == '\\' ? escape() : c);
        }
    }

    private char escape() {
        char c = next();
        int i = "\"\\/bfnrt".indexOf(c);
        if (i >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(i);
        }
        if (c != 'u' || at + 4 > text.length() || !text.substring(at, at + 4).matches("[0-9A-Fa-f]{4}")) {
            throw error();
        }
        at += 4;
        return (char) Integer.parseInt(text.substring(at - 4, at), 16);
    }

    private Object number() {
        int from = at;
        while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        String digits = text.substring(from, at);
        if (digits.matches("-?(0|[1-9][0-9]{0,17})")) {
            return Long.valueOf(digits);
        }
        if (digits.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")) {
            return new BigDecimal(digits);
        }
        throw error();
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw error();
        }
        at += word.length();
        return value;
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw error();
        }
        return text.charAt(at);
    }

    private char next() {
        char c = peek();
        at++;
        return c;
    }

    private void expect(char c) {
        if (next() != c) {
            throw error();
        }
    }

    private IllegalArgumentException error() {
        return new IllegalArgumentException("not JSON at character " + at);
    }
}
